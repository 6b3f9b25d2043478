-- Each registered mini-program: whether a live worker has its secret, its token, and whether WeChat's events have ever arrived.
select a.appid, a.first_receipt_at is not null as events_arrive,
       exists (select from notification_workers_live w where a.appid = any (w.appids) and w.started_at < now() - interval '1 minute') as is_served,
       coalesce(t.expires_at > now(), false) as token_is_valid, t.fetched_at as token_fetched_at, t.last_foreign_at as foreign_refresh_at
from wechat_apps a left join wechat_tokens t on t.appid = a.appid
order by a.appid
