create or replace function wxnotify_bell() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    perform wxnotify_ring();
    return null;
end $$;

comment on function wxnotify_bell is 'Trigger: wakes a sleeping worker after INSERT and after a reschedule.';

grant execute on function wxnotify_bell to wxnotify_worker;
