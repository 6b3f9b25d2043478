-- Whoever holds for more than two seconds what workers need: a lock of ours (their numbers: README.md beside the folders) or a table, as
-- LOCK TABLE and CREATE INDEX do; also who waits for such a lock of a table, since everybody else then waits behind. A prepared
-- transaction has no session. What another user's session does since when is not everybody's to see: then nothing but its lock is
-- known, and since when the first one waits for it. SECURITY DEFINER, so that who may read the view needs no right to the tables.
create or replace function wxnotify_holders()
returns table (holds text, appid text, pid int, prepared text, username text, application text, since timestamptz, waiting bigint, end_with text, holds_code text)
language sql stable security definer rows 1 set search_path from current set jit = off as $$
    with locks as materialized (
        select l.* from pg_locks l
        where l.database = (select d.oid from pg_database d where d.datname = current_database())
          and (l.locktype = 'advisory' and l.classid in (20785, 20786, 20787) and l.objsubid = 2 or l.locktype = 'relation')
    ), strong as (
        select h.*, coalesce(pg_partition_root(c.oid)::regclass::text, c.relname::text) as relname from locks h left join pg_class c on h.locktype = 'relation' and c.oid = h.relation
        where h.pid is distinct from pg_backend_pid()
          and case h.locktype
                  when 'advisory' then h.granted
                  else h.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
                       and c.relkind in ('r', 'p') and c.relnamespace = (select q.relnamespace from pg_class q where q.oid = 'pending_notifications'::regclass)
                       and (c.relname = 'pending_notifications' or starts_with(c.relname::text, 'notification_') or starts_with(c.relname::text, 'wechat_')) end
    ), named as (
        select case h.classid when 20786 then 'the lock of a mini-program' when 20787 then 'the lock of the partitions'
                              when 20785 then 'the lock of the ledger of credits' end as lock,
               h.relname, h.granted, h.classid, h.objid, h.pid, p.gid, coalesce(a.usename, p.owner) as username,
               nullif(left(a.application_name, 40), '') as application,
               coalesce(a.xact_start, p.prepared, a.state_change) as since, w.waiting, w.first_at
        from strong h
        left join pg_stat_activity a on a.pid = h.pid
        -- Its locks keep the number of the session that is gone; of them, that of its transaction's id leads to its name.
        left join lateral (
            select x.gid, x.owner, x.prepared from pg_locks t join pg_prepared_xacts x on x.transaction = t.transactionid
            where t.locktype = 'transactionid' and t.pid is null and t.virtualtransaction = h.virtualtransaction limit 1) p on h.pid is null
        cross join lateral (
            select count(*) as waiting, min(o.waitstart) as first_at from locks o
            where not o.granted and o.pid is distinct from h.pid and o.locktype = h.locktype
              and (o.relation, o.classid, o.objid) is not distinct from (h.relation, h.classid, h.objid)) w
    ), worst as (
        select case when n.lock is not null then n.lock
                    else string_agg(distinct n.relname, ', ' order by n.relname)
                         || case when bool_or(n.granted) then '' else ' (waits for it, and everybody behind)' end end as holds,
               n.classid, n.objid, n.pid, n.gid, n.username, n.application, min(n.since) as since, sum(n.waiting)::bigint as waiting,
               min(n.first_at) as first_at
        from named n group by n.lock, n.classid, n.objid, n.pid, n.gid, n.username, n.application
    )
    select b.holds, k.appid, b.pid, b.gid, b.username::text, b.application, coalesce(b.since, b.first_at), b.waiting,
           case when b.pid is null then format('rollback prepared %L', b.gid) else format('select pg_terminate_backend(%s)', b.pid) end,
           case b.classid when 20786 then 'app_lock' when 20787 then 'partitions_lock' when 20785 then 'ledger_lock' else 'tables' end
    from worst b
    left join lateral (
        select a.appid from (select r.appid from wechat_apps r union select n.appid from notification_lanes n) a
        where b.classid = 20786 and hashtext(a.appid)::bigint & 4294967295 = b.objid::bigint limit 1) k on true
    where coalesce(b.since, b.first_at, '-infinity') < clock_timestamp() - interval '2 seconds'
$$;

comment on function wxnotify_holders is 'What the view notification_blockers shows.';

grant execute on function wxnotify_holders to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
