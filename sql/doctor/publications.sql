-- Tables of ours that a publication publishes with their updates or deletes although they have no replica identity.
with published as (
    select p.pubname::text as publication, c.oid, t.tablename
    from pg_publication p join pg_publication_tables t on t.pubname = p.pubname
    join pg_class c on c.relname = t.tablename and c.relnamespace = (select n.oid from pg_namespace n where n.nspname = t.schemaname)
    where (p.pubupdate or p.pubdelete) and c.relnamespace = (select q.relnamespace from pg_class q where q.oid = 'pending_notifications'::regclass)
      and (c.relname = 'pending_notifications' or starts_with(c.relname::text, 'notification_') or starts_with(c.relname::text, 'wechat_')
           or starts_with(c.relname::text, 'wxnotify_') or c.relname = 'operator_actions')
)
select p.publication, c.oid::regclass::text as name
from published p
join pg_class c on c.oid = p.oid or c.oid in (select t.relid from pg_partition_tree(p.oid) t)
where c.relkind = 'r' and not case c.relreplident
    when 'f' then true
    when 'd' then exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
    when 'i' then exists (select from pg_index i where i.indrelid = c.oid and i.indisreplident)
    else false end
order by 1, 2
