-- What became of the last $2 times of each of these reminders, the last first.
select o.schedule_id, o.local_at, o.fold, o.fire_at, o.state, o.reason, o.count::bigint as times, o.audience::bigint as audience, o.open::bigint as open,
       o.sent::bigint as sent, o.in_doubt::bigint as in_doubt, o.no_credit::bigint as no_credit, o.refused::bigint as refused,
       o.not_true::bigint as not_true, o.expired::bigint as expired, o.dead::bigint as dead, o.cancelled::bigint as cancelled
from unnest($1::bigint[]) with ordinality i (id, n)
cross join lateral (select x.* from reminder_outcomes x where x.schedule_id = i.id order by x.fire_at desc limit $2) o
order by i.n, o.fire_at desc
