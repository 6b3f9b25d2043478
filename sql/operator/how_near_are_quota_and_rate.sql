-- How near is each mini-program to its daily quota and its rate?
-- 各小程序离每日配额和速率上限还有多远？
-- used_percent is WeChat's own count, of every program that sends for the mini-program, at quota_read_at. sent_per_second is our last minute; rate is what we
-- may send, less than rate_set while rate_factor is below 1 after 45011.
select a.appid, a.name, a.quota_daily_limit, a.quota_used, a.quota_remaining, round(100.0 * a.quota_used / nullif(a.quota_daily_limit, 0), 1) as used_percent, a.quota_read_at,
       coalesce(a.rate_per_second, a.quota_rate_per_second) as rate_set, coalesce(a.rate_per_second, a.quota_rate_per_second) * a.rate_factor as rate,
       round(coalesce(s.sent, 0) / 60.0, 1) as sent_per_second
from wechat_apps a
left join (select appid, count(*) as sent from notifications_final where finished_at > now() - interval '1 minute' and status = 'sent' group by appid) s on s.appid = a.appid
order by used_percent desc nulls last, a.appid;
