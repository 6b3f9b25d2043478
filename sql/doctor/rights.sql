-- What this user may do, and what an administrator of the schema should mend.
select current_user::text as name, r.rolsuper as is_superuser, c.oid is not null and pg_has_role(c.relowner, 'usage') as owns,
       coalesce(has_table_privilege(to_regclass('notification_leases'), 'insert') and has_table_privilege(c.oid, 'delete')
                and has_table_privilege(to_regclass('wechat_access_tokens'), 'select')
                and (select bool_and(has_function_privilege(p.oid, 'execute')) from pg_proc p
                     where p.pronamespace = c.relnamespace and p.proname in ('wxnotify_lease', 'wxnotify_start', 'wxnotify_settle', 'wxnotify_rescue')), false) as may_work,
       coalesce((select bool_and(has_function_privilege(p.oid, 'execute')) from pg_proc p
                 where p.pronamespace = c.relnamespace and p.proname in ('cancel_notifications', 'redrive_notifications')), false) as may_operate,
       coalesce(has_any_column_privilege(c.oid, 'insert'), false) as may_insert,
       coalesce(has_any_column_privilege(to_regclass('notifications'), 'select'), false) as may_look,
       -- What closes the schema to others, by whom, if everybody may create objects in it. The tables' owner must still be able to.
       (select case when not pg_has_role(c.relowner, n.nspowner, 'usage')
                    then format('as %I, the owner of the schema: GRANT CREATE ON SCHEMA %I TO %I; ', pg_get_userbyid(n.nspowner), n.nspname,
                                pg_get_userbyid(c.relowner))
                    else '' end || format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', n.nspname)
        from pg_namespace n
        where n.oid = c.relnamespace
          and exists (select from aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE')) as closing_statements,
       array(select w from unnest(array['wxnotify_operator', 'wxnotify_producer', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console']) w
             where to_regrole(w) is null) as missing_roles,
       array(select distinct coalesce(g.rolname, 'PUBLIC')::text from aclexplode(c.relacl) a left join pg_roles g on g.oid = a.grantee
             where a.privilege_type in ('INSERT', 'UPDATE') and a.grantee <> c.relowner and g.rolname is distinct from 'wxnotify_worker'
             order by 1) as wide_writers
from pg_roles r left join pg_class c on c.oid = to_regclass('pending_notifications')
where r.rolname = current_user
