-- What quota/get last said of the registered apps, and the rate that follows. $1 appid or null
select a.appid, a.name as app, a.quota_daily_limit as daily_limit, a.quota_used as used, a.quota_remaining as remaining,
       a.quota_rate_per_second, a.rate_per_second as operator_rate_per_second, wxnotify_app_rate(a.appid) as rate_per_second,
       wxnotify_rate_factor(a.rate_factor, a.rate_cut_at) < 1 as rate_is_cut, a.quota_read_at as read_at,
       coalesce(a.pause_errcode = 45009 and a.paused_until > now(), false) as used_up, l.errcode, l.error, l.due_at as next_at
from wechat_apps a left join wechat_lookups l on l.appid = a.appid and l.lookup = 'quota'
where $1::text is null or a.appid = $1
order by a.appid
