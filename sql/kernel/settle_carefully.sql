-- As settle, after the database refused it: one row that it refuses to move costs only itself.
with careful as materialized (select set_config('wxnotify.careful', 'on', true) as is_on)
select wxnotify_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) from careful where careful.is_on = 'on'
