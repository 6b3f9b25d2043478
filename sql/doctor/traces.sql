-- Rows whose attempts or leases were left behind by a restore.
select without_attempts, of_unknown_leases from wxnotify_missing_traces()
