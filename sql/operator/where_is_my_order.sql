-- Where is the message of this order?
-- 这个订单的通知现在到哪一步了？
-- ref is the business_ref your system wrote into the row: `psql -v ref=20261122-0001 -f …`.
\if :{?ref}
\else
\set ref 'incident-28'
\endif

select id, status, reason, next_at, template_id, attempts, msgid, created_at, finished_at
from notifications
where business_ref = :'ref'
order by id;
