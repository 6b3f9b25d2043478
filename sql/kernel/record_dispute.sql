-- Records that the answer which decided a row came for another row, too ($2: what to say). The row keeps its status; one that
-- is in doubt says so already. False: it is still on its way, so ask again when it is settled. Safe to repeat.
with first as (
    select h.appid, h.attempts, case when h.status in ('sent', 'presumed_sent') then h.status else 'dead' end as result, false as is_sending
    from notification_history h where h.id = $1
    union all
    select p.appid, p.attempts, 'retry', exists (select from notification_leases l
        where l.appid = p.appid and p.id = any (l.ids) and l.lease_id is distinct from p.last_lease)
    from pending_notifications p where p.id = $1 and p.in_doubt_since is null
), recorded as (
    insert into notification_attempts (notification_id, appid, attempt, result, reason, worker, finished_at)
    select $1, f.appid, greatest(f.attempts, 1), f.result, $2, $3, clock_timestamp() from first f
    where not f.is_sending and not exists (select from notification_attempts a where a.notification_id = $1 and a.reason = $2)
)
select not exists (select from first f where f.is_sending)
