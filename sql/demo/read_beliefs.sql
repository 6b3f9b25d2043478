-- What wxnotify believes of every row of the demo.
select id, business_ref, status, reason, attempts, errcode, msgid, may_be_doubled, settled_by, send_at, expire_at, finished_at
from notifications
where business_ref is not null
order by id
