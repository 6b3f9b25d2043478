-- How many rows became due.
select clear_quiet_hours($1, $2, $3)
