-- How long until there is something to do for reminders; null: nothing is planned. One probe of each index, a few microseconds.
create or replace function wxnotify_reminders_wait(p_lead_secs float8) returns float8
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set plan_cache_mode = force_generic_plan as $$
declare
    v_next timestamptz;
begin
    if exists (select 1 from reminder_changes) then
        return 0;
    end if;
    v_next := least(
        (select k.next_fire_at - make_interval(secs => p_lead_secs) from reminder_clock k where k.next_fire_at < 'infinity' order by k.next_fire_at limit 1),
        (select f.chunk_at from reminder_fires f where f.state = 'open' order by f.chunk_at limit 1),
        (select c.refresh_at from reminder_calendars c where c.refresh_at < 'infinity' order by c.refresh_at limit 1));
    -- greatest() would make zero of nothing.
    return case when v_next is not null then greatest(extract(epoch from v_next - clock_timestamp()), 0) end;
end $$;

comment on function wxnotify_reminders_wait is 'How long until there is something to do for reminders, in seconds.';

grant execute on function wxnotify_reminders_wait to wxnotify_worker;
