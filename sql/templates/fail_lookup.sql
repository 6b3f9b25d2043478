-- Ends a claim whose question failed; when it is asked again. No row: the claim is no longer the latest.
select due_at from wxnotify_fail_lookup($1, $2, $3, $4, $5) due_at where due_at is not null
