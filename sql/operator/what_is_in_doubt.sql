-- Which sends may have arrived without our knowing, what will be done with them when, and who must decide?
-- 哪些消息可能已送达但结果未知？什么时候怎么处理？谁来决定？
-- If you know better: select confirm_sent(id), confirm_not_sent(id) or retry_anyway(id). on_doubt is hold where nothing is sent again by itself.
select id, appid, template_id, business_ref, in_doubt_since, date_trunc('second', age) as age, on_doubt, attempts, events_since, next_at, what_next, count(*) over () as in_all
from notification_doubts
order by in_doubt_since;
