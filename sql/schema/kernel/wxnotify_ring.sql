-- The bell is a sequence whose value is the unix second until which it is armed: what sleepers left who died runs out by itself.
-- 1 is what programs of level 1 set who sleep: they are served until a sleeper of today arms it over them. A NOTIFY keeps a
-- transaction from being prepared in two phases: a session, a role or a database with wxnotify.bell = 'off' sends none.
create or replace function wxnotify_ring() returns void
language plpgsql security definer set search_path from current as $$
declare
    v_until bigint := (select last_value from notification_bell);
begin
    if (v_until = 1 or v_until > extract(epoch from clock_timestamp()))
       and lower(coalesce(current_setting('wxnotify.bell', true), '')) not in ('off', 'false', 'no', '0') then
        perform pg_notify('wxnotify', '');
    end if;
end $$;

comment on function wxnotify_ring is 'Wakes sleeping workers, unless the session has wxnotify.bell = ''off''; costs nothing while none sleeps.';

grant execute on function wxnotify_ring to wxnotify_worker;
