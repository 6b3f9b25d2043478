-- Records what a check answered about rows. Returns how many ended.
select wxnotify_settle_checks($1, $2, $3, $4, $5)
