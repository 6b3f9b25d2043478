-- Prolongs the bell if it is armed and runs out within 10 seconds; then whether it is and never was silent meanwhile, and the oldest
-- transaction still running. One that has run out is not prolonged: an INSERT may have passed it, so it is armed anew, with a fence.
-- Evaluated in this order: the clock that judges whether there was a gap is read after the prolonging.
select case when b.until = 1 or b.until > b.second and b.until < b.second + 10 then setval('notification_bell', b.second + 20) end,
       set_config('synchronous_commit', 'off', true),
       b.until = 1 or b.until > extract(epoch from clock_timestamp()),
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint
from (select s.last_value as until, extract(epoch from clock_timestamp())::bigint as second from notification_bell s) b
