-- The registered mini-programs among those whose secret this worker has, and whether a rate is known for them.
select appid, coalesce(rate_per_second, quota_rate_per_second) is not null from wechat_apps where appid = any ($1) order by appid
