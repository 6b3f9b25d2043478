-- The zones of reminder schedules.
select distinct c.time_zone from reminder_calendars c where c.problem is null order by 1
