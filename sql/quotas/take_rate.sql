-- Takes a slice of a mini-program's rate.
select wxnotify_take_rate($1, $2, $3)
