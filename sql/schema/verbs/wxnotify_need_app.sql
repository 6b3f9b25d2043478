create or replace function wxnotify_need_app(p_appid text) returns void
language plpgsql stable set search_path from current as $$
begin
    if not exists (select 1 from wechat_apps a where a.appid = p_appid) then
        raise exception 'app % is not registered', coalesce(p_appid, 'null')
            using errcode = 'no_data_found', hint = 'Register it with `wxnotify app add APPID`, or look at `wxnotify app list` for the right one.';
    end if;
end $$;

comment on function wxnotify_need_app is 'Raises when a mini-program is not registered.';

grant execute on function wxnotify_need_app to wxnotify_worker;
