-- Is each access token healthy, who fetched it, and does another system fetch it too?
-- access_token 正常吗？谁获取的？是否有其他系统也在获取？
-- A token lives for two hours and is fetched anew before it ends. foreign_refreshes counts how often it died early: another system uses getAccessToken or forces refreshes.
select appid, app, generation, date_trunc('second', valid_for) as valid_for, fetched_at, refreshed_by, fetching, foreign_refreshes, last_foreign_at,
       case when last_foreign_at > now() - interval '1 hour' then 'another system fetches it by force'
            when valid_for <= interval '0' then 'expired: no worker fetches it' else 'healthy' end as verdict,
       case when last_foreign_at > now() - interval '1 hour' then '有其他系统强制获取'
            when valid_for <= interval '0' then '已过期：没有 worker 获取' else '正常' end as verdict_zh
from wechat_tokens
order by last_foreign_at > now() - interval '1 hour' desc nulls last, valid_for, appid;
