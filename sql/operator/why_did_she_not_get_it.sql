-- Was this user told of this order, if not why, and what happens next?
-- 这个用户收到这个订单的通知了吗？没有的话为什么？接下来会怎样？
-- ref is the business_ref your system wrote into the row: `psql -v ref=20261122-0001 -f …`. One line for each of its notifications, the
-- oldest first; none: no row was ever inserted for it.
\if :{?ref}
\else
\set ref 'incident-05'
\endif

select n.id, e.status, e.sentence, e.what_next, e.sentence_zh, e.what_next_zh, e.next_at, jsonb_pretty(e.timeline) as timeline
from (select id from notifications where business_ref = :'ref') n
cross join lateral explain_notification(n.id) e
order by n.id;
