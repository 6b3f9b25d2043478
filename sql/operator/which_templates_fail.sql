-- Which templates fail, with which errcode, and since when?
-- 哪些模板在失败？错误码是什么？从什么时候开始？
-- Of the last 24 hours, the deadliest first; first_at says since when, within them. An empty errcode means that no readable
-- reply came.

select appid, template_id, errcode, meaning, meaning_zh, attempts, dead, doubts, first_at, last_at, advice, advice_zh
from notification_template_failures
order by dead desc, attempts desc, appid, template_id, errcode;
