-- How is that redrive going, who started it, and why?
-- 那次重投进行得怎样？谁发起的？为什么？
-- One line for each person and minute, the latest first: sent and failed of what was redriven, and open for what is not final yet. note is the reason given.
\if :{?days}
\else
\set days '7'
\endif

select date_trunc('minute', r.at) as at, r.actor, a.note, a.filter, count(*) as redriven,
       count(*) filter (where n.status in ('sent', 'presumed_sent')) as sent, count(*) filter (where n.status in ('dead', 'unresolved', 'expired')) as failed,
       count(*) filter (where n.status is null) as open, count(*) filter (where n.status in ('cancelled', 'duplicate')) as otherwise
from (select * from notification_redrives where at > now() - make_interval(days => :days) order by at desc limit 10000) r
left join lateral (select f.status from notifications_final f where f.id = r.new_id limit 1) n on true
left join lateral (select o.note, o.filter from operator_actions o
                   where o.action = 'redrive' and o.actor = r.actor and o.at >= r.at - interval '1 second' order by o.at limit 1) a on true
group by date_trunc('minute', r.at), r.actor, a.note, a.filter
order by at desc, r.actor;
