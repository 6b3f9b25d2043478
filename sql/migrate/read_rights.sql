-- Which of our roles there are, and a digest of all that they may do with our objects.
with ours as (select oid, rolname from pg_roles where rolname in ('wxnotify_producer', 'wxnotify_operator', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console')),
here as (select oid from pg_namespace where nspname = current_schema()),
rights as (
    select 'r ' || c.relname as object, a.grantee, a.privilege_type
    from pg_class c join here on here.oid = c.relnamespace cross join lateral aclexplode(c.relacl) a where not c.relispartition
    union all
    select 'c ' || c.relname || '.' || t.attname, a.grantee, a.privilege_type
    from pg_class c join here on here.oid = c.relnamespace join pg_attribute t on t.attrelid = c.oid cross join lateral aclexplode(t.attacl) a
    where not c.relispartition and not t.attisdropped
    union all
    select 'f ' || p.proname, a.grantee, a.privilege_type
    from pg_proc p join here on here.oid = p.pronamespace cross join lateral aclexplode(p.proacl) a
    union all
    select 'n', a.grantee, a.privilege_type
    from pg_namespace n join here on here.oid = n.oid cross join lateral aclexplode(n.nspacl) a)
select array(select rolname::text from ours order by 1) as roles,
       md5(array(select rolname::text from ours order by 1)::text
           || coalesce(string_agg(concat_ws(' ', r.object, o.rolname, r.privilege_type), E'\n' order by r.object, o.rolname, r.privilege_type), '')) as digest
from rights r join ours o on o.oid = r.grantee
