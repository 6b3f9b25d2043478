-- Records that a check could not be asked about rows. Returns how many ended.
select wxnotify_fail_check($1, $2, $3, $4)
