-- What an operator may know of every token: all but the token.
select appid, generation, unchanged,
       extract(epoch from expires_at - now())::double precision as expires_in_secs,
       refreshed_by, fetched_at,
       case when forced_on = (now() at time zone 'UTC' + interval '8 hours')::date then forced_count else 0::smallint end as forced_today,
       last_forced_at, foreign_refreshes, last_foreign_at
from wechat_access_tokens
order by appid
