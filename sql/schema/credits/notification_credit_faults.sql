-- The books balance while this is empty. Each arm can be filtered by appid and openid.
create or replace view notification_credit_faults as
select e.appid, e.openid, e.template_id, 'lost: the row that claims an accept exists nowhere' as fault, e.notification_id, e.id as event_id
from wechat_events e
where e.answer is not null and e.notification_id is not null
  and not exists (select 1 from pending_notifications p where p.id = e.notification_id)
  and not exists (select 1 from notification_history h where h.id = e.notification_id)
union all
select h.appid, h.openid, h.template_id, 'lost: the row it was redriven as exists nowhere', h.id, null
from notification_history h
join notification_redrives d on d.redriven_id = h.id
where h.status in ('dead', 'unresolved', 'expired', 'cancelled')
  and not exists (select 1 from pending_notifications p where p.id = d.new_id)
  and not exists (select 1 from notification_history f where f.id = d.new_id)
union all
select p.appid, p.openid, p.template_id, 'counted twice: it is pending and final', p.id, null
from pending_notifications p
where exists (select 1 from notification_history h where h.id = p.id)
union all
select h.appid, h.openid, h.template_id, 'counted twice: it ended more than once', h.id, null
from notification_history h
group by h.appid, h.openid, h.template_id, h.id
having count(*) > 1
union all
select h.appid, h.openid, h.template_id, 'counted twice: two rows own the message with msgid ' || h.msgid, min(h.id), null
from notification_history h
where h.msgid is not null
group by h.appid, h.openid, h.template_id, h.msgid
having count(distinct h.id) > 1
union all
select e.appid, e.openid, e.template_id, 'misclaimed: an accept is claimed by a row of another user or template', e.notification_id, e.id
from wechat_events e
join notification_history h on h.id = e.notification_id
where e.answer is not null and (h.appid, h.openid, h.template_id, h.kind) is distinct from (e.appid, e.openid, e.template_id, 'one_time')
union all
select e.appid, e.openid, e.template_id,
       format('unbalanced: %s accepted, %s accounted for', sum(e.accepts), count(*) filter (where e.fate not in ('claimed', 'redriven', 'withdrawn', 'elsewhere'))),
       null, null
from notification_credit_entries e
group by e.appid, e.openid, e.template_id
having sum(e.accepts) <> count(*) filter (where e.fate not in ('claimed', 'redriven', 'withdrawn', 'elsewhere'));

comment on view notification_credit_faults is 'Where the books do not balance; empty while they do. Filter by appid and openid: without a filter it reads everything.';
comment on column notification_credit_faults.appid is 'The mini-program.';
comment on column notification_credit_faults.openid is 'The user.';
comment on column notification_credit_faults.template_id is 'The template.';
comment on column notification_credit_faults.fault is 'What is wrong.';
comment on column notification_credit_faults.notification_id is 'The notification it is about.';
comment on column notification_credit_faults.event_id is 'The event it is about.';

grant select on notification_credit_faults to wxnotify_worker;
grant select on notification_credit_faults to wxnotify_operator;
grant select (appid, template_id, fault, notification_id, event_id)
    on notification_credit_faults to wxnotify_viewer;
