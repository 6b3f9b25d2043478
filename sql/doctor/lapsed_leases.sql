-- Leases whose worker is gone and that no other worker took over, though each looks every second.
select count(*) as leases, coalesce(sum(cardinality(l.ids)), 0)::bigint as rows,
       coalesce(extract(epoch from clock_timestamp() - min(l.expires_at)), 0)::float8 as oldest_secs
from notification_leases l
where l.expires_at < clock_timestamp() - interval '1 minute'
