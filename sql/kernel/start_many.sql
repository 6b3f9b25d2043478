-- The durable record before the first sends of several leases. A lease that is gone is missing from the answer.
select lease_id, started_at from wxnotify_start_many($1, $2, $3, $4, $5)
