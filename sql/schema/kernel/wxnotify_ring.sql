create or replace function wxnotify_ring() returns void
language plpgsql security definer set search_path from current as $$
begin
    if (select last_value from notification_bell) > 0 then
        perform pg_notify('wxnotify', '');
    end if;
end $$;

comment on function wxnotify_ring is 'Wakes sleeping workers; costs nothing while none sleeps.';

grant execute on function wxnotify_ring to wxnotify_worker;
