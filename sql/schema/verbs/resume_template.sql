create or replace function resume_template(p_appid text, p_template_id text, p_rows int default 1000, p_note text default null) returns integer
language plpgsql volatile security definer set search_path from current as $$
declare
    v_rows int;
begin
    perform wxnotify_need_read_committed();
    update wechat_templates set paused_until = null, pause_reason = null, pause_errcode = null where appid = p_appid and template_id = p_template_id;
    perform wxnotify_lock_app_for_verb(p_appid);
    v_rows := wxnotify_unpark(p_appid, p_template_id, 'template', p_rows);
    perform wxnotify_record_action('resume_template', jsonb_build_object('appid', p_appid, 'template_id', p_template_id), v_rows, p_note);
    return v_rows;
end $$;

comment on function resume_template is 'Ends the pause of a template and makes at most 1,000 parked rows due. Returns how many: call again while it returns 1000.';

grant execute on function resume_template to wxnotify_operator;
