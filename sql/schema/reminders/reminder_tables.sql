-- Workers lock schedules and write all the rest of them.
grant select, update (version) on reminder_schedules to wxnotify_worker;
grant select, delete on reminder_audience to wxnotify_worker;
grant select on reminder_days, notification_quiet_hours to wxnotify_worker;
grant select, update on reminder_checks to wxnotify_worker;
grant select, delete on reminder_schedules_deleted to wxnotify_worker;
grant select, insert, update, delete on reminder_calendars, reminder_clock, reminder_changes, reminder_fires to wxnotify_worker;
grant select, insert, delete on reminder_results to wxnotify_worker;
grant insert on notification_redrives to wxnotify_worker;

-- Operators look by the views and change by the verbs. The days are theirs as well as the business's.
grant select, insert, update, delete on reminder_days to wxnotify_operator;
grant select on notification_quiet_hours, reminder_checks to wxnotify_operator, wxnotify_viewer;

-- Business systems: their own schedules and audiences, by column as with notifications.
grant select, delete on reminder_schedules to wxnotify_producer;
grant insert (appid, name, cron, every, time_zone, only_on, calendar, starts_at, ends_at, fires_max, audience, openid, credit, kind, template_id, page, data,
              miniprogram_state, lang, lane, dedup_key, business_ref, on_doubt, valid_for, spread, missed, catch_up, catch_up_max, quiet, still_true)
    on reminder_schedules to wxnotify_producer;
grant update (name, cron, every, time_zone, only_on, calendar, starts_at, ends_at, fires_max, audience, openid, credit, kind, template_id, page, data,
              miniprogram_state, lang, lane, dedup_key, business_ref, on_doubt, valid_for, spread, missed, catch_up, catch_up_max, quiet, still_true)
    on reminder_schedules to wxnotify_producer;
grant select, insert, update, delete on reminder_audience, reminder_days to wxnotify_producer;
