-- How many messages become due within the next hour, in steps of five minutes?
-- 未来一小时每五分钟有多少消息到期？
select appid, date_bin('5 minutes', next_at, timestamptz '2000-01-01 00:00:00+00') as from_time, count(*) as rows
from notifications
where status in ('scheduled', 'retrying') and next_at < now() + interval '1 hour'
group by appid, from_time
order by from_time, appid;
