-- False: it was paused already.
select pause_schedule($1, $2)
