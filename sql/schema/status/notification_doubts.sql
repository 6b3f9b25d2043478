create or replace view notification_doubts as
select p.id, p.appid, p.openid, p.template_id, p.business_ref, p.in_doubt_since, statement_timestamp() - p.in_doubt_since as age,
       p.on_doubt, p.attempts, p.attempts_max, nullif(p.due, 'infinity') as next_at,
       p.is_sending,
       case when p.kind = 'service_card' and not coalesce(p.extra ? 'ext_json', false) then 'WeChat is asked for the card''s state: it ends sent, or is sent again'
            when p.on_doubt = 'hold' then 'waits for evidence or an operator, then ends unresolved'
            when p.attempts >= p.attempts_max then 'waits for evidence, then ends unresolved: attempts used up'
            else 'waits for evidence, then is sent again' end as what_next,
       (select count(*) from wechat_events e where e.appid = p.appid and e.openid = p.openid and e.template_id = p.template_id
          and e.msgid is not null 
          and e.occurred_at >= p.in_doubt_since - case e.event when 'late_reply' then interval '0' else interval '5 seconds' end) as events_since
from notifications_pending p
where p.in_doubt_since is not null;

comment on view notification_doubts is 'Notifications whose send may have arrived and whose reply was lost.';
comment on column notification_doubts.id is 'The notification.';
comment on column notification_doubts.appid is 'The mini-program.';
comment on column notification_doubts.openid is 'The receiver.';
comment on column notification_doubts.template_id is 'The template.';
comment on column notification_doubts.business_ref is 'The business object.';
comment on column notification_doubts.in_doubt_since is 'Beginning of the first send whose result is unknown.';
comment on column notification_doubts.age is 'Time since then.';
comment on column notification_doubts.on_doubt is 'retry or hold.';
comment on column notification_doubts.attempts is 'Sends counted.';
comment on column notification_doubts.attempts_max is 'Most sends.';
comment on column notification_doubts.next_at is 'Until when evidence is awaited.';
comment on column notification_doubts.is_sending is 'True while it is being sent again.';
comment on column notification_doubts.what_next is 'What happens then.';
comment on column notification_doubts.events_since is 'WeChat''s messages about this user and template since the doubt began: possible evidence.';

grant select on notification_doubts to wxnotify_worker;
grant select on notification_doubts to wxnotify_operator;
grant select (id, appid, template_id, business_ref, in_doubt_since, age, on_doubt, attempts, attempts_max, next_at, is_sending, what_next, events_since)
    on notification_doubts to wxnotify_viewer;
