-- False: it was approved.
select approve_schedule($1, $2)
