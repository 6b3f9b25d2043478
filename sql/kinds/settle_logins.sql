-- What exchanges of login codes brought; returns the rows that could not be had. A repeat finds nothing to change.
select wxnotify_settle_logins($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
