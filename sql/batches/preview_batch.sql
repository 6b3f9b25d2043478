-- $1 verb, $2 filter, $3 how many rows at most
select preview_batch($1, $2, $3)
