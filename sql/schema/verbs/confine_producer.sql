-- The owner's alone: who may name which mini-program is not an operator's daily business. The policy is made with the first and goes
-- with the last; in between every INSERT of a producer costs one look at a small table. Making and dropping it needs the table for
-- itself, and INSERTs wait while it waits: so it gives up soon (55P03) and is called again.
create or replace function confine_producer(p_login name, p_appids text[], p_note text default null) returns void
language plpgsql volatile set search_path from current set lock_timeout = '450ms' as $$
begin
    if not exists (select from pg_roles r where r.rolname = p_login and r.rolcanlogin) then
        raise exception 'login %: there is no such role, or it cannot log in', p_login using errcode = 'invalid_parameter_value',
            hint = 'A group confines nobody: name the login itself, as in pg_roles.';
    end if;
    -- The policy goes with the last login that is released: nobody may be confined beside that.
    lock table notification_producers in exclusive mode;
    insert into notification_producers as n (login, appids) values (p_login, p_appids)
    on conflict (login) do update set appids = excluded.appids, confined_at = clock_timestamp(), confined_by = session_user;
    if not exists (select from pg_policy p where p.polrelid = 'pending_notifications'::regclass and p.polname = 'confined') then
        create policy confined on pending_notifications as restrictive for insert with check (wxnotify_may_name(appid));
    end if;
    perform wxnotify_record_action('confine_producer', jsonb_build_object('login', p_login, 'appids', p_appids), 1, p_note);
end $$;

comment on function confine_producer is 'Lets a login insert for these mini-programs alone. Only the owner of the tables can.';
