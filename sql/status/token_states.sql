-- Every registered app with the state of its token; no token is read.
select a.appid, a.name as app, t.generation, t.expires_at, t.fetched_at, t.refreshed_by, coalesce(t.foreign_refreshes, 0) as foreign_refreshes, t.last_foreign_at, coalesce(t.expires_at > now(), false) as valid
from wechat_apps a left join wechat_tokens t on t.appid = a.appid
where $1::text is null or a.appid = $1
order by a.appid
