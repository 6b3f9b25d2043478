-- Why a function may not be asked; null: it may. Looked at again before each call, since its owner can replace it. It runs with its owner's rights,
-- so that it cannot use ours, and that owner must have none of ours either.
create or replace function wxnotify_check_fault(p_function_name text) returns text
language plpgsql stable set search_path from current as $$
declare
    f       pg_proc;
    v_names text[];
begin
    begin
        v_names := parse_ident(p_function_name);
    exception when others then
        return 'its name cannot be read: write schema.function';
    end;
    if cardinality(v_names) <> 2 then
        return 'its name needs its schema: write schema.function';
    end if;
    select p.* into f from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = v_names[1] and p.proname = v_names[2] and p.proargtypes = array['text[]'::regtype]::oidvector;
    return case
        when f.oid is null then 'there is no such function that takes text[]'
        when f.prorettype <> 'text[]'::regtype or f.proretset or f.prokind <> 'f' then 'it must return text[]'
        when not f.prosecdef then 'it must be SECURITY DEFINER'
        when not exists (select 1 from unnest(f.proconfig) c where c like 'search_path=%') then 'it must have a search_path of its own: ALTER FUNCTION … SET search_path = …'
        when (select r.rolsuper from pg_roles r where r.oid = f.proowner) then 'its owner is a superuser; give it to a role of the business'
        when f.proowner in (select c.relowner from pg_class c where c.oid = 'pending_notifications'::regclass)
             or exists (select 1 from pg_roles r where r.rolname in ('wxnotify_worker', 'wxnotify_operator', 'wxnotify_viewer', 'wxnotify_console')
                        and pg_has_role(f.proowner, r.oid, 'member')) then 'its owner has rights of wxnotify''s; give it to a role of the business'
        when not has_function_privilege('wxnotify_worker', f.oid, 'execute') or not has_schema_privilege('wxnotify_worker', f.pronamespace, 'usage')
            then 'workers may not execute it: GRANT USAGE ON SCHEMA … and EXECUTE ON FUNCTION … TO wxnotify_worker' end;
end $$;

comment on function wxnotify_check_fault is 'Why a function cannot be a check; null: it can.';

grant execute on function wxnotify_check_fault to wxnotify_worker;
grant execute on function wxnotify_check_fault to wxnotify_operator;
