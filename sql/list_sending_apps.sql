-- The registered mini-programs among those whose secret this worker has.
select appid, rate_per_second is not null from wechat_apps where appid = any ($1) order by appid
