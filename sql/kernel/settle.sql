-- Records outcomes. Idempotent: only rows of the lease that are not settled yet are touched. Null: fenced.
select wxnotify_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
