-- The wall time that is skipped; null: none is known, or it was being made at this moment.
select skip_next($1, $2)
