-- Asks for the times of a calendar from an earlier moment on, a month back at most; whoever holds its row is about to compute it.
create or replace function wxnotify_want_calendar(p_spec text, p_from timestamptz) returns void
language plpgsql volatile set search_path from current as $$
begin
    perform 1 from reminder_calendars c where c.spec = p_spec for update skip locked;
    if found then
        update reminder_calendars c set wanted_from = greatest(least(c.wanted_from, p_from), clock_timestamp() - interval '31 days'), refresh_at = clock_timestamp()
        where c.spec = p_spec;
    end if;
end $$;

comment on function wxnotify_want_calendar is 'Asks for the times of a calendar from an earlier moment on.';

grant execute on function wxnotify_want_calendar to wxnotify_worker;
