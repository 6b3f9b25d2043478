-- Whether the login is the console's: granted wxnotify_console by name; or a superuser, who could write anything anywhere.
create or replace function wxnotify_speaks_for_people() returns boolean
language sql stable set search_path from current as $$
    select exists (select from pg_auth_members m where m.roleid = to_regrole('wxnotify_console') and m.member = (select r.oid from pg_roles r where r.rolname = session_user))
        or (select r.rolsuper from pg_roles r where r.rolname = session_user)
$$;

comment on function wxnotify_speaks_for_people is 'Whether this login is the console''s, whose word for who acts is taken.';

grant execute on function wxnotify_speaks_for_people to wxnotify_operator;
grant execute on function wxnotify_speaks_for_people to wxnotify_viewer;
