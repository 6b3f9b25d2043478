-- $1 batch, $2 rows
select step_batch($1, $2)
