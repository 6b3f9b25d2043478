create or replace function add_app(p_appid text, p_name text default null, p_rate_per_second real default null, p_note text default null) returns boolean
language plpgsql volatile security definer set search_path from current as $$
declare
    v_added boolean;
begin
    insert into wechat_apps as a (appid, name, rate_per_second) values (p_appid, p_name, p_rate_per_second)
    on conflict (appid) do update set name = coalesce(excluded.name, a.name), rate_per_second = coalesce(excluded.rate_per_second, a.rate_per_second)
    returning a.xmax = 0 into v_added;
    perform wxnotify_record_action('add_app', jsonb_strip_nulls(jsonb_build_object('appid', p_appid, 'name', p_name, 'rate_per_second', p_rate_per_second)), 1, p_note);
    return v_added;
end $$;

comment on function add_app is 'Registers a mini-program, or changes its name and rate; rows that waited for it start (resume_app un-parks them at once). True: it was new.';

grant execute on function add_app to wxnotify_operator;
