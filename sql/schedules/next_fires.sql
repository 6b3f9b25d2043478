-- The next times of a reminder, and why one will be skipped.
select n.local_at, n.fold, n.fire_at, n.skipped from reminder_next($1, $2) n
