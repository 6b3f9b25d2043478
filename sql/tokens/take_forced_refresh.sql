-- Takes one forced refresh of the day's budget, counted before it is made.
select wxnotify_take_forced_refresh($1, $2)
