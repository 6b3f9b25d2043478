-- $1 batch, $2 note, $3 pace
select start_batch($1, $2, $3)
