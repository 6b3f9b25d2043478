-- Gives back a lease that was never started.
select wxnotify_release($1, $2, $3)
