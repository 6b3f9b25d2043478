-- How long do messages take from due to sent to confirmed, and how many missed their expire_at?
-- 消息从到期到发送、到回执各要多久？有多少过期未发？
-- Of the last hours. sent_* is from send_at (or INSERT) to WeChat's acceptance, confirmed_* from there to WeChat's sent event, which is dated in whole seconds.
\if :{?hours}
\else
\set hours '24'
\endif

select appid, count(*) filter (where status = 'sent') as sent, count(*) filter (where status = 'expired') as expired,
       percentile_disc(array[0.5, 0.95, 0.99]) within group (order by finished_at - greatest(created_at, send_at)) filter (where status = 'sent') as sent_p50_p95_p99,
       count(receipt_at) as confirmed,
       percentile_disc(array[0.5, 0.95, 0.99]) within group (order by greatest(receipt_at - finished_at, interval '0')) filter (where receipt_at is not null) as confirmed_p50_p95_p99
from notifications_final
where finished_at > now() - make_interval(hours => :hours)
group by appid
order by appid;
