-- What others hung on the tables of wxnotify, any of which may refuse a row its way into the history: foreign keys to them, triggers
-- and rules. A trigger is ours by its function, which is in our schema and named so; of partitions the parent tells.
with ours as (
    select c.oid, c.relname, c.relnamespace
    from pg_class c
    where c.relnamespace = (select p.relnamespace from pg_class p where p.oid = 'pending_notifications'::regclass) and c.relkind in ('r', 'p')
      and not c.relispartition
      and c.relname in ('pending_notifications', 'notification_history', 'notification_attempts', 'notification_leases', 'notification_keys', 'wechat_events'))
select 'foreign key' as kind, k.conname::text as name, k.conrelid::regclass::text as on_table, o.relname::text as about
from pg_constraint k join ours o on o.oid = k.confrelid
where k.contype = 'f' and k.conparentid = 0 and k.conrelid not in (select x.oid from ours x)
union all
select 'trigger', t.tgname::text, o.relname::text, o.relname::text
from pg_trigger t join ours o on o.oid = t.tgrelid join pg_proc f on f.oid = t.tgfoid
where not t.tgisinternal and not (f.pronamespace = o.relnamespace and f.proname like 'wxnotify\_%')
union all
select 'rule', r.rulename::text, o.relname::text, o.relname::text
from pg_rewrite r join ours o on o.oid = r.ev_class
order by 1, 3, 2
