-- Dead and unresolved notifications of the last 24 hours by errcode. $1 appid or null
select d.appid, d.status, d.errcode, max(d.meaning) as meaning, max(d.meaning_zh) as meaning_zh, count(*) as rows,
       count(*) filter (where d.redriven_as is not null) as redriven
from notification_dead_letters d
where d.finished_at > now() - interval '1 day' and ($1::text is null or d.appid = $1)
group by d.appid, d.status, d.errcode
order by count(*) desc, d.appid, d.errcode
