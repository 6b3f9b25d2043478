create or replace view notification_43101 as
select h.id, h.appid, h.openid, h.template_id, h.business_ref, w.which, w.certainty, w.evidence, w.evidence_zh, h.created_at, h.finished_at
from notification_history h
cross join lateral wxnotify_which_43101(h.id) w
where h.status = 'dead' and h.errcode = 43101;

comment on view notification_43101 is 'Notifications that ended with 43101, and which 43101 it was. Bound finished_at: each row is weighed against the books of its user and template.';
comment on column notification_43101.id is 'The notification.';
comment on column notification_43101.appid is 'The mini-program.';
comment on column notification_43101.openid is 'The receiver.';
comment on column notification_43101.template_id is 'The template.';
comment on column notification_43101.business_ref is 'The business object.';
comment on column notification_43101.which is 'never_accepted, refused, used_up or spent_elsewhere.';
comment on column notification_43101.certainty is 'certain, likely or possible.';
comment on column notification_43101.evidence is 'What tells so.';
comment on column notification_43101.evidence_zh is 'The same in Chinese.';
comment on column notification_43101.created_at is 'When it was inserted.';
comment on column notification_43101.finished_at is 'When it ended.';

grant select on notification_43101 to wxnotify_worker;
grant select on notification_43101 to wxnotify_operator;
grant select (id, appid, template_id, business_ref, which, certainty, evidence, evidence_zh, created_at, finished_at)
    on notification_43101 to wxnotify_viewer;
