-- What became of each reminder of the demo.
select o.name, count(*) filter (where o.state = 'done') as fires, sum(o.sent)::bigint as sent, sum(o.no_credit)::bigint as no_credit,
       sum(o.not_true)::bigint as not_true, sum(o.open)::bigint as open
from reminder_outcomes o
where o.name in ('habit', 'lesson-7')
group by o.name
order by o.name
