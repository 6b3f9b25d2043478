-- A day that is not listed goes by its weekday, so that it is enough to list what differs.
create or replace function wxnotify_fires_on(p_only_on text, p_calendar text, p_day date) returns boolean
language sql stable set search_path from current as $$
    select case when p_only_on is null then true
        else coalesce((select d.is_workday from reminder_days d where d.calendar = p_calendar and d.day = p_day), extract(isodow from p_day) < 6)
             = (p_only_on = 'workday') end
$$;

comment on function wxnotify_fires_on is 'Whether a schedule fires on a day, by the days of its calendar.';

grant execute on function wxnotify_fires_on to wxnotify_worker;
