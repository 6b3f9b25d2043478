-- How many notifications ended per minute in the last quarter of an hour, and how?
-- 最近 15 分钟每分钟有多少消息结束？结果如何？
-- It reads this month's partition of the history; wait_p95 is the time from send_at (or INSERT) to the end.
select date_trunc('minute', finished_at) as minute, count(*) as ended, count(*) filter (where status = 'sent') as sent,
       count(*) filter (where status = 'dead') as dead, count(*) filter (where status not in ('sent', 'dead')) as otherwise,
       percentile_disc(0.95) within group (order by finished_at - greatest(created_at, send_at)) as wait_p95
from notifications_final
where finished_at > now() - interval '15 minutes'
group by minute
order by minute;
