create policy worker_audience on reminder_audience to wxnotify_worker using (true);

comment on policy worker_audience on reminder_audience is 'A worker sees every audience.';
