-- A barrier, as own_notifications has.
create or replace view own_reminder_outcomes with (security_barrier) as
select r.* from reminder_outcomes r where r.producer = session_user;

comment on view own_reminder_outcomes is 'What became of each time of the reminders that the current database user inserted.';
do $$
declare
    v_column record;
begin
    for v_column in select a.attname, col_description(a.attrelid, a.attnum) as words
                    from pg_attribute a where a.attrelid = 'reminder_outcomes'::regclass and a.attnum > 0 loop
        execute format('comment on column own_reminder_outcomes.%I is %L', v_column.attname, v_column.words);
    end loop;
end $$;

grant select on own_reminder_outcomes to wxnotify_worker, wxnotify_producer;
