-- The schema that new objects go to, if this user may create none there, and who may let it.
select n.nspname::text as schema, current_user::text as name,
       case pg_get_userbyid(n.nspowner)
           when 'pg_database_owner' then (select pg_get_userbyid(d.datdba) from pg_database d where d.datname = current_database())
           else pg_get_userbyid(n.nspowner) end::text as owner
from pg_namespace n
where n.nspname = current_schema() and not has_schema_privilege(n.oid, 'create')
