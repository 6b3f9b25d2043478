-- Who uses a function or view that is to go, in words: (kind, name) and the names of ours, which are replaced or dropped first.
with object as (
    select 'pg_proc'::regclass as class, p.oid from pg_proc p
    where $1 = 'function' and p.proname = $2 and p.pronamespace = (select n.oid from pg_namespace n where n.nspname = current_schema())
    union all
    select 'pg_class'::regclass, to_regclass(quote_ident(current_schema()) || '.' || quote_ident($2)) where $1 = 'view')
select distinct pg_describe_object(u.class, u.oid, 0)
from object o
join pg_depend d on d.refclassid = o.class and d.refobjid = o.oid and d.deptype in ('n', 'a')
left join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
left join pg_trigger t on d.classid = 'pg_trigger'::regclass and t.oid = d.objid
cross join lateral (
    select case when w.oid is not null then 'pg_class'::regclass::oid else d.classid end as class, coalesce(w.ev_class, d.objid) as oid) u
where u.oid <> o.oid
  and not exists (select from pg_class c where u.class = 'pg_class'::regclass and c.oid = u.oid and c.relname = any ($3)
                    and c.relnamespace = (select n.oid from pg_namespace n where n.nspname = current_schema()))
  and not exists (select from pg_class c where c.oid = t.tgrelid and c.relname || '.' || t.tgname = any ($3))
order by 1
