-- Detaches and drops the oldest partition of an ended retention; null: there is none. $1 months to keep
select wxnotify_drop_old_partition($1)
