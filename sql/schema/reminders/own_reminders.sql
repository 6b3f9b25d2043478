-- A barrier, so that no function of a curious producer sees other rows before the filter does.
create or replace view own_reminders with (security_barrier) as
select r.* from reminders r where r.producer = session_user;

comment on view own_reminders is 'The reminder schedules that the current database user inserted.';
do $$
declare
    v_column record;
begin
    for v_column in select a.attname, col_description(a.attrelid, a.attnum) as words
                    from pg_attribute a where a.attrelid = 'reminders'::regclass and a.attnum > 0 loop
        execute format('comment on column own_reminders.%I is %L', v_column.attname, v_column.words);
    end loop;
end $$;

grant select on own_reminders to wxnotify_worker, wxnotify_producer;
