-- $1 batch, $2 note
select stop_batch($1, $2)
