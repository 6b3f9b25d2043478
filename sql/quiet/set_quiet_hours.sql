-- How many rows became due.
select set_quiet_hours($1, $2, $3, $4, $5, $6)
