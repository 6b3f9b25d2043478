-- Records outcomes of several leases in one commit. Idempotent for each, as settle is; null: that lease is fenced.
select settled_lease_id, kept_back
from wxnotify_settle_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
