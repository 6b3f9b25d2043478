-- What an administrator should mend after a migration, one sentence a row.
select format('%s cannot create the roles %s: have an administrator of the server run deploy/roles.sql, then run `wxnotify migrate` again',
              current_user, string_agg(role, ', ' order by role))
from unnest(array['wxnotify_producer', 'wxnotify_operator', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console']) role
where to_regrole(role) is null
having count(*) > 0
union all
-- Before Postgres 15 that is so in `public` from the start, and who owns the database owns no `public` and creates there by that right alone.
select format('every user of this database may create objects in the schema %1$I and could slip functions under ours: '
              || case when not pg_has_role(n.nspowner, 'usage') then 'as %2$I, its owner, GRANT CREATE ON SCHEMA %1$I TO %3$I; ' else '' end
              || 'REVOKE CREATE ON SCHEMA %1$I FROM PUBLIC', n.nspname, pg_get_userbyid(n.nspowner), current_user)
from pg_namespace n
where n.nspname = current_schema()
  and exists (select from aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE')
