-- Forgets fires of reminders older than 90 days, some thousands a call.
select wxnotify_drop_old_fires()
