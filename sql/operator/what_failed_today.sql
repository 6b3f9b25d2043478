-- What failed in the last 24 hours, and why?
-- 最近 24 小时哪些发送失败了？原因是什么？
-- One row per app and errcode, the deadliest first. An empty errcode means that no readable reply came.
select appid, errcode, meaning, meaning_zh, attempts, dead, doubts, last_at, advice, advice_zh
from notification_failures
order by dead desc, attempts desc;
