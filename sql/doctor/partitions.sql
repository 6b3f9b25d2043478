-- The monthly partitions (UTC) that settling needs from now on.
select p.parent, to_char(m.month, 'YYYY-MM') as month,
       extract(epoch from m.month - date_trunc('second', now() at time zone 'UTC'))::float8 as starts_in_secs,
       exists (select from wxnotify_partitions(to_regclass(p.parent)) w
               where w.from_at <= m.month at time zone 'UTC' and w.to_at >= (m.month + interval '1 month') at time zone 'UTC') as there
from unnest(array['notification_history', 'notification_attempts']) p (parent)
cross join generate_series(date_trunc('month', now() at time zone 'UTC'), date_trunc('month', now() at time zone 'UTC') + interval '1 month', interval '1 month') m (month)
order by m.month, p.parent
