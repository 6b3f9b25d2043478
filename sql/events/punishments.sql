-- What WeChat punished lately. $1 appid or null for all
select appid, punished_at, punishment, reason, banned_functions, banned_days from wechat_punishments
where ($1::text is null or appid = $1) and received_at > now() - interval '7 days'
order by punished_at desc limit 20
