-- Where is the message of order 20261122-0001?
-- 订单 20261122-0001 的通知现在到哪一步了？
-- business_ref is what the business system wrote into the row; put yours here.
select id, status, reason, next_at, template_id, attempts, msgid, created_at, finished_at
from notifications
where business_ref = '20261122-0001'
order by id;
