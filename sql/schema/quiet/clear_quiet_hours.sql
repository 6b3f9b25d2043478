create or replace function clear_quiet_hours(p_appid text, p_template_id text default null, p_note text default null, p_rows int default 1000) returns integer
language plpgsql volatile security definer set search_path from current as $$
declare
    v_rows int;
begin
    perform wxnotify_need_read_committed();
    perform wxnotify_need_app(p_appid);
    delete from notification_quiet_hours h where h.appid = p_appid and h.template_id = coalesce(p_template_id, '');
    v_rows := wxnotify_heed_quiet_hours(p_appid, p_rows);
    perform wxnotify_record_action('clear_quiet_hours', jsonb_strip_nulls(jsonb_build_object('appid', p_appid, 'template_id', p_template_id)), v_rows, p_note);
    return v_rows;
end $$;

comment on function clear_quiet_hours is 'Ends the quiet hours of a mini-program, or of one of its templates. Rows that waited for their end become due, at most 1,000 a call. Returns how many: call again, in a transaction of its own, while it returns 1000.';

grant execute on function clear_quiet_hours to wxnotify_operator;
