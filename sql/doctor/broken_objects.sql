-- Triggers of the queue that are disabled, as after a restore with --disable-triggers, and indexes that are not valid.
select 'trigger' as kind, t.tgname::text as name
from pg_trigger t
where t.tgrelid = 'pending_notifications'::regclass and not t.tgisinternal and t.tgenabled not in ('O', 'A')
union all
select 'index', i.indexrelid::regclass::text
from pg_index i join pg_class c on c.oid = i.indrelid
where c.relnamespace = (select p.relnamespace from pg_class p where p.oid = 'pending_notifications'::regclass)
  and (c.relname = 'pending_notifications' or c.relname like 'notification\_%' or c.relname like 'wechat\_%') and not (i.indisvalid and i.indisready)
order by 1, 2
