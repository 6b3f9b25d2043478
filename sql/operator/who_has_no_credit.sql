-- How many credits are left for a template, and which users have none?
-- 某个模板还剩多少订阅次数？哪些用户一次都没有？
-- balance is what WeChat most likely still holds. left_in_all and users_without are of the whole template, the lines its hundred users with the
-- least. Reads the books of every user of the mini-program: some seconds for a million rows of history.
\if :{?appid}
\else
\set appid 'wxincident-shop'
\endif
\if :{?template}
\else
\set template 'tmplOrderIsReady'
\endif

select openid, balance, pending, held, in_doubt, refused_at is not null as refuses, last_accepted_at,
       sum(balance) over () as left_in_all, count(*) filter (where balance = 0) over () as users_without
from notification_credits
where appid = :'appid' and template_id = :'template'
order by balance, openid
limit 100;
