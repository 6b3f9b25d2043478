-- Attempts of the last 24 hours that did not succeed, by app and errcode. $1 appid or null
select appid, errcode, meaning, meaning_zh, disposition, attempts, dead, doubts, first_at, last_at, advice, advice_zh
from notification_failures
where $1::text is null or appid = $1
order by dead desc, attempts desc, appid, errcode
