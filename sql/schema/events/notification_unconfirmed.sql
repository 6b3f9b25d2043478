-- First what workers have listed (wxnotify_keep_unconfirmed), then what ended since: it reads an hour of history and not a year.
create or replace view notification_unconfirmed as
select h.id, h.appid, h.openid, h.template_id, h.business_ref, h.msgid, h.finished_at, statement_timestamp() - h.finished_at as age
from notification_unconfirmed_ids u
join notification_history h on h.id = u.id and h.finished_at = u.finished_at
join wechat_apps a on a.appid = h.appid and h.finished_at >= a.first_receipt_at
where h.status = 'sent' and h.msgid is not null and h.receipt_at is null and h.finished_at < statement_timestamp() - interval '1 hour'
  and u.finished_at < coalesce((select b.kept_until from notification_books b where b.book = 'unconfirmed'), '-infinity')
union all
select h.id, h.appid, h.openid, h.template_id, h.business_ref, h.msgid, h.finished_at, statement_timestamp() - h.finished_at
from notification_history h
join wechat_apps a on a.appid = h.appid and h.finished_at >= a.first_receipt_at
where h.status = 'sent' and h.msgid is not null and h.receipt_at is null and h.finished_at < statement_timestamp() - interval '1 hour'
  and h.finished_at >= coalesce((select b.kept_until from notification_books b where b.book = 'unconfirmed'), '-infinity');

comment on view notification_unconfirmed is 'Accepted by WeChat more than an hour ago and never confirmed by a sent event, of apps whose events do arrive. Fast while a worker runs; while none does, bound finished_at.';
comment on column notification_unconfirmed.id is 'The notification.';
comment on column notification_unconfirmed.appid is 'The mini-program.';
comment on column notification_unconfirmed.openid is 'The receiver.';
comment on column notification_unconfirmed.template_id is 'The template.';
comment on column notification_unconfirmed.business_ref is 'The business object.';
comment on column notification_unconfirmed.msgid is 'WeChat''s msgid.';
comment on column notification_unconfirmed.finished_at is 'When WeChat''s acceptance was recorded.';
comment on column notification_unconfirmed.age is 'Time since then.';

grant select on notification_unconfirmed to wxnotify_worker;
grant select on notification_unconfirmed to wxnotify_operator;
grant select (id, appid, template_id, business_ref, msgid, finished_at, age)
    on notification_unconfirmed to wxnotify_viewer;
