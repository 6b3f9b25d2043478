-- The sub-select sees the session's own schedules alone.
create policy own_audience on reminder_audience to wxnotify_producer
    using (exists (select 1 from reminder_schedules s where s.id = schedule_id and s.producer = session_user))
    with check (exists (select 1 from reminder_schedules s where s.id = schedule_id and s.producer = session_user));

comment on policy own_audience on reminder_audience is 'A database user sees and changes the audience of its own schedules.';
