-- Which functions, views, triggers and policies there are, whoever made them.
with here as (select oid from pg_namespace where nspname = current_schema())
select 'function' as kind, p.proname::text as name from pg_proc p join here on here.oid = p.pronamespace
union all
select 'view', c.relname::text from pg_class c join here on here.oid = c.relnamespace where c.relkind = 'v'
union all
select 'trigger', c.relname || '.' || t.tgname
from pg_trigger t join pg_class c on c.oid = t.tgrelid join here on here.oid = c.relnamespace where not t.tgisinternal
union all
select 'policy', c.relname || '.' || p.polname
from pg_policy p join pg_class c on c.oid = p.polrelid join here on here.oid = c.relnamespace
