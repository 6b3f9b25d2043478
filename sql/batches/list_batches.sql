-- The latest first. $1 most rows
select id, verb, state, actor, filter, more, note, pace_per_minute, previewed_at, started_at, stepped_at, ended_at, ended_by, rows, left_out, waiting, changed, unchanged
from notification_batches where state <> 'preview' order by id desc limit $1
