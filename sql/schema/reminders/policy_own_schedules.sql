create policy own_schedules on reminder_schedules to wxnotify_producer using (producer = session_user) with check (producer = session_user);

comment on policy own_schedules on reminder_schedules is 'A database user sees and changes the schedules that it inserted.';
