-- What did WeChat accept and never confirm?
-- 哪些消息微信已接受，却一直没有回执？
-- Of the last days, and of mini-programs whose sent events do arrive. A few are usual, since WeChat loses events; many at once: look at the callbacks.
\if :{?days}
\else
\set days '7'
\endif

select id, appid, template_id, business_ref, msgid, finished_at, date_trunc('second', age) as age, count(*) over () as in_all
from notification_unconfirmed
where finished_at > now() - make_interval(days => :days)
order by finished_at
limit 100;
