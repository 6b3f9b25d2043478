-- Who holds a lock on a table or view, in words.
select distinct format('pid %s (%s, %s%s)', a.pid, coalesce(a.usename::text, 'no user'), coalesce(a.state, 'unknown'),
                       ' since ' || to_char(coalesce(a.xact_start, a.state_change), 'HH24:MI:SS TZ'))
from pg_locks l join pg_stat_activity a on a.pid = l.pid
where l.relation = to_regclass(quote_ident(current_schema()) || '.' || quote_ident($1)) and l.granted and l.pid <> pg_backend_pid()
order by 1
