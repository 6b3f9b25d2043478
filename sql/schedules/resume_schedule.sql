-- False: it was not paused.
select resume_schedule($1, $2)
