-- What is still to be sent to this user or for this order, and how is it cancelled or moved?
-- 这个用户或订单还有哪些待发消息？如何取消或改期？
-- By business_ref, or by appid and openid: `psql -v ref=20261122-0001 -f …`, `psql -v appid=wx… -v openid=o… -f …`. A row that is being sent or in doubt cannot be
-- cancelled; held rows are credits without a message.
\if :{?ref}
\else
\set ref 'incident-34'
\endif
\if :{?appid}
\else
\set appid ''
\endif
\if :{?openid}
\else
\set openid ''
\endif

select id, status, reason, next_at, template_id, business_ref, send_at, expire_at,
       case when status not in ('sending', 'in_doubt') then 'select * from cancel_notification(' || id || ')' end as cancel_with,
       case when status not in ('sending', 'in_doubt') then 'select * from reschedule_notification(' || id || ', timestamptz ''…'')' end as move_with
from (select * from notifications where business_ref = :'ref' and finished_at is null
      union
      select * from notifications where appid = :'appid' and openid = :'openid' and finished_at is null) n
order by next_at, id;
