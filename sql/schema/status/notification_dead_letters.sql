create or replace view notification_dead_letters as
select h.id, h.appid, h.status, h.errcode,
       case when h.errcode is null then h.errmsg else h.errcode || coalesce(' ' || e.meaning_en, ' (errcode not in the table)') end as meaning,
       case when h.errcode is null then h.errmsg else h.errcode || coalesce(' ' || e.meaning_zh, '（未收录的错误码）') end as meaning_zh,
       h.errmsg, h.credit, h.attempts, h.openid, h.template_id,
       h.business_ref, h.created_at, h.finished_at, r.new_id as redriven_as
from notification_history h
left join wechat_errcodes e on e.errcode = h.errcode
left join notification_redrives r on r.redriven_id = h.id
where h.status in ('dead', 'unresolved');

comment on view notification_dead_letters is 'Notifications that ended dead or unresolved, with the reason and what became of the credit. The latest first: order by finished_at desc with one status at a time, which an index serves.';
comment on column notification_dead_letters.id is 'The notification.';
comment on column notification_dead_letters.appid is 'The mini-program.';
comment on column notification_dead_letters.status is 'dead or unresolved.';
comment on column notification_dead_letters.errcode is 'WeChat''s last errcode.';
comment on column notification_dead_letters.meaning is 'The errcode in words, or the transport failure.';
comment on column notification_dead_letters.meaning_zh is 'The same in Chinese.';
comment on column notification_dead_letters.errmsg is 'WeChat''s last errmsg.';
comment on column notification_dead_letters.credit is 'kept: a corrected copy can be sent; gone: collect a new one; unknown.';
comment on column notification_dead_letters.attempts is 'Sends counted.';
comment on column notification_dead_letters.openid is 'The receiver.';
comment on column notification_dead_letters.template_id is 'The template.';
comment on column notification_dead_letters.business_ref is 'The business object.';
comment on column notification_dead_letters.created_at is 'When it was inserted.';
comment on column notification_dead_letters.finished_at is 'When it ended.';
comment on column notification_dead_letters.redriven_as is 'The notification it was redriven as; null: it was not.';

grant select on notification_dead_letters to wxnotify_worker;
grant select on notification_dead_letters to wxnotify_operator;
grant select (id, appid, status, errcode, meaning, meaning_zh, errmsg, credit, attempts, template_id, business_ref, created_at, finished_at, redriven_as)
    on notification_dead_letters to wxnotify_viewer;
