-- A barrier, so that no function of a curious producer sees other rows before the filter does.
create or replace view own_notifications with (security_barrier) as
select n.* from notifications n where n.producer = session_user;

comment on view own_notifications is 'The notifications, pending and final, that the current database user inserted or armed. Filter by id or business_ref.';
do $$
declare
    v_column record;
begin
    for v_column in select a.attname, col_description(a.attrelid, a.attnum) as words
                    from pg_attribute a where a.attrelid = 'notifications'::regclass and a.attnum > 0 loop
        execute format('comment on column own_notifications.%I is %L', v_column.attname, v_column.words);
    end loop;
end $$;

grant select on own_notifications to wxnotify_worker, wxnotify_producer;
