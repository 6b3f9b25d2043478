-- The mini-program and notification of a failed call. A rid begins with its time in hex, which leaves one or two partitions to read.
select a.appid, a.notification_id, a.attempt, a.errcode
from notification_attempts a
where a.rid = $1 and a.finished_at between to_timestamp($2) - interval '1 hour' and to_timestamp($2) + interval '2 days'
limit 1
