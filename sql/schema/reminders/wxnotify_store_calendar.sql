-- Stores the times of a calendar: all of (p_from, p_until]. It is computed anew when half of what lies ahead is over. One with a problem never:
-- its schedules are invalid until they are edited, or until a release that knows better computes it.
create or replace function wxnotify_store_calendar(
    p_spec text, p_from timestamptz, p_until timestamptz, p_local timestamp[], p_folds smallint[], p_fire_ats timestamptz[], p_problem text) returns void
language plpgsql volatile set search_path from current as $$
declare
    v_now     timestamptz := clock_timestamp();
    v_problem text;
begin
    select c.problem into v_problem from reminder_calendars c where c.spec = p_spec for update;
    update reminder_calendars c
    set covers_from = p_from, covers_until = p_until, local_ats = p_local, folds = p_folds, fire_ats = p_fire_ats, problem = left(p_problem, 500), computed_at = v_now,
        wanted_from = case when c.wanted_from < p_from then c.wanted_from end,
        refresh_at = case when p_problem is not null then 'infinity' when c.wanted_from < p_from or p_until <= v_now then v_now else v_now + (p_until - v_now) / 2 end
    where c.spec = p_spec;
    if v_problem is not null and p_problem is null then
        insert into reminder_changes (schedule_id) select s.id from reminder_schedules s where s.spec = p_spec;
    end if;
end $$;

comment on function wxnotify_store_calendar is 'Stores the times of a calendar.';

grant execute on function wxnotify_store_calendar to wxnotify_worker;
