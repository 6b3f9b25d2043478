create or replace function resume_app(p_appid text, p_rows int default 1000, p_note text default null) returns integer
language plpgsql volatile security definer set search_path from current as $$
declare
    v_rows int;
begin
    perform wxnotify_need_read_committed();
    perform wxnotify_need_app(p_appid);
    update wechat_apps set paused_until = null, pause_reason = null, pause_errcode = null where appid = p_appid;
    perform wxnotify_lock_app_for_verb(p_appid);
    v_rows := wxnotify_unpark(p_appid, null, 'app', p_rows);
    perform wxnotify_record_action('resume_app', jsonb_build_object('appid', p_appid), v_rows, p_note);
    return v_rows;
end $$;

comment on function resume_app is 'Ends the pause of a mini-program and makes at most 1,000 parked rows due. Returns how many: call again, in a transaction of its own, while it returns 1000; the rest comes by itself within minutes.';

grant execute on function resume_app to wxnotify_operator;
