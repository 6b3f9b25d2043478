create or replace function set_app_approval(p_appid text, p_above integer, p_note text default null) returns void
language plpgsql volatile security definer set search_path from current as $$
begin
    perform wxnotify_need_app(p_appid);
    if p_above < 0 then
        raise exception 'approve above % users: must be 0 or more, or null for never', p_above using errcode = '22023';
    end if;
    update wechat_apps set approve_above = p_above where appid = p_appid;
    perform wxnotify_record_action('set_app_approval', jsonb_build_object('appid', p_appid, 'above', p_above), 1, p_note);
end $$;

comment on function set_app_approval is 'A reminder of the mini-program to more users than this is sent only after approve_schedule(); null: none needs it.';

grant execute on function set_app_approval to wxnotify_operator;
