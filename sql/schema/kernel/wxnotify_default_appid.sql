-- Object mappers write NULL where the application said nothing: the column's default, which set_default_app set, as a value.
create or replace function wxnotify_default_appid() returns text
language plpgsql stable set search_path from current as $$
declare
    v_default text := (
        select pg_get_expr(d.adbin, d.adrelid)
        from pg_attrdef d join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where d.adrelid = 'pending_notifications'::regclass and a.attname = 'appid');
    v_appid   text;
begin
    if v_default is not null then
        execute 'select ' || v_default into v_appid;
    end if;
    return v_appid;
end $$;

comment on function wxnotify_default_appid is 'The default of pending_notifications.appid; null: it has none.';

grant execute on function wxnotify_default_appid to wxnotify_worker;
