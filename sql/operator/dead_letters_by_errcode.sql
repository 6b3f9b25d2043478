-- Which dead letters are there by cause, which may be redriven, and at what cost in credits?
-- 死信按原因统计各有多少？哪些可以重投？要用多少订阅次数？
-- credit kept: mend the cause and redrive; gone: collect a new one first; unknown: a redrive may work. to_redrive is what was not redriven yet and
-- has its credit perhaps; each one_time row of it costs one.
\if :{?days}
\else
\set days '7'
\endif

select d.appid, d.errcode, d.meaning, d.meaning_zh, d.template_id, d.credit, count(*) as rows, count(d.redriven_as) as redriven,
       count(*) filter (where d.redriven_as is null and d.credit is distinct from 'gone' and d.openid is not null) as to_redrive,
       count(*) filter (where d.redriven_as is null and d.credit is distinct from 'gone' and d.openid is not null and f.kind = 'one_time') as credits_needed,
       max(d.finished_at) as last_at, min(d.id) as for_instance
from notification_dead_letters d
left join lateral (select kind from notifications_final x where x.id = d.id limit 1) f on true
where d.finished_at > now() - make_interval(days => :days)
group by d.appid, d.errcode, d.meaning, d.meaning_zh, d.template_id, d.credit
order by rows desc, d.appid, d.errcode, d.template_id;
