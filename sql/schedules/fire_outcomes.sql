-- What became of the last times of a reminder.
select o.local_at, o.fold, o.fire_at, o.state, o.reason, o.count::bigint as times, o.audience::bigint as audience, o.open::bigint as open, o.sent::bigint as sent,
       o.in_doubt::bigint as in_doubt, o.no_credit::bigint as no_credit, o.refused::bigint as refused, o.not_true::bigint as not_true,
       o.expired::bigint as expired, o.dead::bigint as dead, o.cancelled::bigint as cancelled
from reminder_outcomes o
where o.schedule_id = $1
order by o.fire_at desc
limit $2
