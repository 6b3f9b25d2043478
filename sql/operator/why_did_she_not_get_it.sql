-- Why did she not get the message, and what now?
-- 她为什么没收到通知？接下来怎么办？
-- Put the id of the notification here (where_is_my_order.sql finds it). An unknown id gets an answer too.
select status, sentence, what_next, sentence_zh, what_next_zh, next_at, jsonb_pretty(timeline) as timeline
from explain_notification(1);
