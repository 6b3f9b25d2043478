-- Inserts a schedule as its business would; what is left out has its default. Its id.
insert into reminder_schedules (appid, name, cron, every, time_zone, only_on, calendar, starts_at, ends_at, fires_max, audience, openid, credit, kind, template_id,
    page, data, lane, dedup_key, business_ref, on_doubt, valid_for, spread, missed, quiet, still_true)
select s.appid, s.name, s.cron, s.every, s.time_zone, s.only_on, s.calendar, s.starts_at, s.ends_at, s.fires_max, s.audience, s.openid, s.credit, s.kind, s.template_id,
    s.page, s.data, s.lane, s.dedup_key, s.business_ref, s.on_doubt, s.valid_for, s.spread, s.missed, s.quiet, s.still_true
from jsonb_populate_record(null::reminder_schedules, $1) s
returning id
