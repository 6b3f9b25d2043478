-- Which one-time credits has this user, and which were spent?
-- 这个用户还有哪些一次性订阅次数？用掉了哪些？
-- balance is what WeChat most likely still holds; it reaches as far back as the history.
\if :{?appid}
\else
\set appid 'wxincident-shop'
\endif
\if :{?openid}
\else
\set openid 'oUserOfIncident06'
\endif

select template_id, balance, accepted, unclaimed, held, pending, in_doubt, sent, unresolved, dead_gone, dead_kept, dead_unknown, unused,
       sent_elsewhere, refused_at, last_accepted_at, last_finished_at
from notification_credits
where appid = :'appid' and openid = :'openid'
order by template_id;
