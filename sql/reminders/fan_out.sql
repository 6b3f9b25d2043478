-- Makes the next $1 rows of an open fire; rows and cursor are one transaction.
select wxnotify_fan_out($1)
