-- Calendars whose times are to be computed, claimed for some seconds: two workers that compute one store the same.
select spec, cron, every_days, anchor, time_zone, from_at, until_at, now_at from wxnotify_stale_calendars($1)
