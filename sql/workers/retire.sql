-- Records an orderly stop, and forgets starts that ended a week ago.
with old as (
    delete from notification_workers where coalesce(stopped_at, heartbeat_at) < clock_timestamp() - interval '7 days')
update notification_workers set stopped_at = clock_timestamp(), in_flight = 0 where name = $1 and epoch = $2
