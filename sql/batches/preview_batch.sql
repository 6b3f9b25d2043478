-- $1 verb, $2 filter
select preview_batch($1, $2)
