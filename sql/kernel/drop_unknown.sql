-- Gives up the leases of this worker that it does not know, after an unclear reply to a lease.
select wxnotify_drop_unknown($1, $2, $3)
