-- Says that the worker lives; returns how many live ones there are, for shares of a rate.
with beat as (
    update notification_workers set heartbeat_at = clock_timestamp(), in_flight = $3, appids = $4 where name = $1 and epoch = $2)
select greatest(count(*), 1) from notification_workers where stopped_at is null and heartbeat_at > clock_timestamp() - interval '30 seconds'
