-- Vacuuming of wxnotify's tables, as the statistics tell it.
select c.relname as name,
       exists (select from pg_options_to_table(c.reloptions) o where o.option_name = 'autovacuum_enabled' and not o.option_value::bool) as autovacuum_is_off,
       coalesce(s.n_live_tup, 0) as live, coalesce(s.n_dead_tup, 0) as dead
from pg_class c left join pg_stat_all_tables s on s.relid = c.oid
where c.relnamespace = (select p.relnamespace from pg_class p where p.oid = 'pending_notifications'::regclass) and c.relkind = 'r'
  and (c.relname = 'pending_notifications' or c.relname like 'notification\_%' or c.relname like 'wechat\_%')
order by c.relname
