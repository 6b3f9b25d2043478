-- Records durably that a lease with rows of reminders may be sent from now on, and says which of its rows. No row: the lease is gone.
select started_at, ids from wxnotify_start_reminders($1, $2, $3, $4, $5)
