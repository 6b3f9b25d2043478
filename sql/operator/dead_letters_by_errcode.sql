-- Which dead letters are there of the last seven days, by errcode and template, and is the credit still there?
-- 最近七天的死信，按错误码和模板统计；订阅次数还在吗？
-- credit kept: mend the cause and redrive; gone: collect a new one; unknown: a redrive may work.
select appid, errcode, meaning, meaning_zh, template_id, credit, count(*) as rows,
       count(redriven_as) as redriven, max(finished_at) as last_at, min(id) as for_instance
from notification_dead_letters
where finished_at > now() - interval '7 days'
group by appid, errcode, meaning, meaning_zh, template_id, credit
order by rows desc;
