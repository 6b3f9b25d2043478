create policy worker on pending_notifications to wxnotify_worker using (true);

comment on policy worker on pending_notifications is 'A worker sees every row.';
