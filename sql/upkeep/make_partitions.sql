-- Makes the monthly partitions of the next three months.
select wxnotify_make_partitions(3)
