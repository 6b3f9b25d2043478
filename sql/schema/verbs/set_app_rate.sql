create or replace function set_app_rate(p_appid text, p_rate_per_second real, p_note text default null) returns void
language plpgsql volatile security definer set search_path from current as $$
begin
    perform wxnotify_need_app(p_appid);
    update wechat_apps set rate_per_second = p_rate_per_second where appid = p_appid;
    perform wxnotify_record_action('set_app_rate', jsonb_build_object('appid', p_appid, 'rate_per_second', p_rate_per_second), 1, p_note);
end $$;

comment on function set_app_rate is 'Most sends per second of all workers together; null: no limit.';

grant execute on function set_app_rate to wxnotify_operator;
