-- Who makes others wait for a lock, since when, and how many do they hold up?
-- 谁占着锁让别人等待？从什么时候开始？挡住了多少会话？
-- A producer may take LOCK TABLE: while it does, nobody inserts and nobody leases. End such a session with
-- `select pg_terminate_backend(pid)`. The last line counts those who wait, and is there when nobody does.
with waiting as (
    select unnest(pg_blocking_pids(w.pid)) as holder, w.pid, w.query_start
    from pg_stat_activity w
    where w.wait_event_type = 'Lock'
)
select h.pid, h.usename, h.application_name, h.client_addr, h.state, h.xact_start, min(w.query_start) as blocks_since,
       count(distinct w.pid) as waiting,
       (select string_agg(distinct l.relation::regclass || ' ' || l.mode, ', ') from pg_locks l
        where l.pid = h.pid and l.granted and l.relation is not null and l.mode like '%ExclusiveLock') as holds
from waiting w
join pg_stat_activity h on h.pid = w.holder
group by h.pid, h.usename, h.application_name, h.client_addr, h.state, h.xact_start
union all
select null, 'nobody else', null, null, null, null, null, count(distinct pid), null from waiting
order by waiting desc;
