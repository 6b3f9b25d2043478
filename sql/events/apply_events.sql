-- Records sent events as receipts of their rows, a bounded batch at a time; any worker may, they skip each other's.
select wxnotify_apply_events($1)
