-- What died since a time, by cause. $1 appid or null, $2 hours back
select d.appid, d.status, d.errcode, d.meaning, d.meaning_zh, d.credit, count(*) as rows, count(*) filter (where d.redriven_as is not null) as redriven,
       min(d.finished_at) as first_at, max(d.finished_at) as last_at
from notification_dead_letters d
where d.status in ('dead', 'unresolved') and d.finished_at > now() - make_interval(hours => $2) and ($1::text is null or d.appid = $1)
group by d.appid, d.status, d.errcode, d.meaning, d.meaning_zh, d.credit
order by count(*) desc, d.appid, d.errcode
limit 200
