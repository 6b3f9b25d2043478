-- What is paused, why, until when, and by whom?
-- 哪些小程序或模板被暂停？为什么？到什么时候？谁暂停的？
-- An empty paused_until waits for an operator: mend the cause, then run resume_with. paused_by is empty where wxnotify paused it by itself, for the errcode.
select p.appid, p.app, p.template_id, p.reason, p.meaning, p.meaning_zh, p.paused_until, a.actor as paused_by, a.at as paused_at, a.note, p.resume_with
from notification_pauses p
left join lateral (
    select o.actor, o.at, o.note from operator_actions o
    where p.errcode is null and o.action = case when p.template_id is null then 'pause_app' else 'pause_template' end
      and o.filter ->> 'appid' = p.appid and o.filter ->> 'template_id' is not distinct from p.template_id
    order by o.at desc limit 1) a on true
order by p.appid, p.template_id nulls first;
