-- What keeps VACUUM from removing dead rows: transactions open for more than 5 minutes, prepared ones, replication slots. A last
-- row counts the sessions this user may not look into.
select 'transaction' as kind, format('pid %s, user %s%s', a.pid, a.usename, coalesce(', ' || nullif(left(a.application_name, 40), ''), '')) as name,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as held_secs, 0::bigint as amount
from pg_stat_activity a
where a.datname = current_database() and a.backend_type <> 'autovacuum worker' and a.xact_start < clock_timestamp() - interval '5 minutes'
union all
select 'prepared', format('%s of %s', left(p.gid, 60), p.owner), extract(epoch from clock_timestamp() - p.prepared)::float8, 0
from pg_prepared_xacts p
where p.database = current_database() and p.prepared < clock_timestamp() - interval '5 minutes'
union all
select 'slot', s.slot_name || case when s.active then '' else ' (inactive)' end, null,
       coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end, s.restart_lsn), 0)::bigint
from pg_replication_slots s
where not s.active or age(s.xmin) > 10000000
union all
select 'hidden', 'sessions', null, count(*)
from pg_stat_activity a
where a.datname = current_database() and a.query = '<insufficient privilege>'
having count(*) > 0
order by kind, held_secs desc nulls last, name
