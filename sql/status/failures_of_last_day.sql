-- What failed in the last 24 hours. $1 appid or null
select appid, errcode, meaning, meaning_zh, attempts, dead, doubts, last_at, advice, advice_zh from notification_failures
where $1::text is null or appid = $1
order by dead desc, attempts desc, appid, errcode
