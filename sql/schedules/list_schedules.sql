-- Reminder schedules for an operator: by mini-program, and one by its id or name.
select r.id, r.appid, r.name, r.state, r.problem, coalesce(r.cron, 'every ' || r.every) as calendar, r.time_zone, r.audience, r.template_id,
       r.next_at, r.next_local_at, r.last_local_at, r.last_state, r.last_reason, r.paused_at, r.producer, r.quiet, r.still_true, r.approved
from reminders r
where ($1::text is null or r.appid = $1) and ($2::bigint is null or r.id = $2) and ($3::text is null or r.name = $3)
order by r.appid, r.name, r.producer
limit $4
