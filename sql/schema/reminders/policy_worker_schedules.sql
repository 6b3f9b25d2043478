create policy worker_schedules on reminder_schedules to wxnotify_worker using (true);

comment on policy worker_schedules on reminder_schedules is 'A worker sees every schedule.';
