-- Which sends may have arrived without our knowing, and who must decide?
-- 哪些消息可能已送达但结果未知？谁来决定？
-- If you know better: select confirm_sent(id), confirm_not_sent(id) or retry_anyway(id).
select id, appid, template_id, business_ref, in_doubt_since, age, on_doubt, events_since, next_at, what_next
from notification_doubts
order by in_doubt_since;
