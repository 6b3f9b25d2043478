-- Every entry of the books: a witness of an accept (accepts is 1), a place where a credit is (fate), or both. A row that was
-- redriven handed its credit on; a held row that was withdrawn never had one of its own; a row
-- that a reminder made has none until its start hands it one.
create or replace view notification_credit_entries as
select p.appid, p.openid, p.template_id,
       case when p.in_doubt_since is not null then 'in_doubt' when p.held then 'held' else 'pending' end as fate,
       case when exists (select 1 from notification_redrives d join notification_history o on o.id = d.redriven_id where d.new_id = p.id)
            then 0 else 1 end as accepts,
       p.id as notification_id, null::bigint as event_id,
       coalesce((select c.occurred_at from wechat_events c where c.notification_id = p.id), p.created_at) as at, null::timestamptz as accepted_at,
       null::timestamptz as finished_at, null::timestamptz as none_left_at
from pending_notifications p
where p.kind = 'one_time' and (p.schedule_id is null or exists (select 1 from notification_redrives d where d.new_id = p.id))
union all
select h.appid, h.openid, h.template_id,
       case when exists (select 1 from notification_redrives d where d.redriven_id = h.id) then 'redriven'
            when exists (select 1 from wechat_events w where w.held_id = h.id and w.notification_id <> h.id) then 'withdrawn'
            when h.status in ('sent', 'presumed_sent') then 'sent'
            when h.status = 'unresolved' then 'unresolved'
            when h.status = 'dead' then 'dead_' || coalesce(h.credit, 'unknown')
            else 'unused' end,
       case when exists (select 1 from notification_redrives d join notification_history o on o.id = d.redriven_id where d.new_id = h.id)
              or exists (select 1 from wechat_events w where w.held_id = h.id and w.notification_id <> h.id)
            then 0 else 1 end,
       h.id, null, coalesce((select c.occurred_at from wechat_events c where c.notification_id = h.id), h.created_at), null, h.finished_at,
       case when h.status = 'dead' and h.errcode = 43101 and (
                select e.answer from wechat_events e
                where e.appid = h.appid and e.openid = h.openid and e.template_id = h.template_id and e.answer is not null
                  and e.occurred_at <= h.finished_at + interval '5 seconds'
                order by e.occurred_at desc, e.answer desc limit 1) is distinct from 'reject' then h.finished_at end
from notification_history h
where h.kind = 'one_time' and (h.schedule_id is null or exists (select 1 from notification_redrives d where d.new_id = h.id))
union all
select e.appid, e.openid, e.template_id, case when e.notification_id is null then 'unclaimed' else 'claimed' end,
       case when e.notification_id is null then 1 else 0 end, e.notification_id, e.id, e.occurred_at, e.occurred_at, null, null
from wechat_events e
where e.answer = 'accept' and e.event = 'subscribe_msg_popup_event'
union all
select e.appid, e.openid, e.template_id, 'elsewhere', 0, null, e.id, e.occurred_at, null, null, null
from wechat_events e
where e.event = 'subscribe_msg_sent_event' and e.msgid is not null and e.applied_at is null
  and not exists (select 1 from notification_history h
                  where h.appid = e.appid and h.openid = e.openid and h.template_id = e.template_id and h.msgid = e.msgid);

comment on view notification_credit_entries is 'The entries that notification_credits adds up; wxnotify''s own.';
comment on column notification_credit_entries.appid is 'The mini-program.';
comment on column notification_credit_entries.openid is 'The user.';
comment on column notification_credit_entries.template_id is 'The template.';
comment on column notification_credit_entries.fate is 'The column of notification_credits it counts in; claimed, redriven and withdrawn count in none.';
comment on column notification_credit_entries.accepts is '1 for a witness of an accept that no other entry counts.';
comment on column notification_credit_entries.notification_id is 'The notification; for an accept the one that claims it.';
comment on column notification_credit_entries.event_id is 'The event.';
comment on column notification_credit_entries.at is 'When the user tapped or the message was sent elsewhere, as far as known.';
comment on column notification_credit_entries.none_left_at is 'When a 43101 without a refusal said that no credit was left.';
comment on column notification_credit_entries.accepted_at is 'When WeChat says that the user accepted.';
comment on column notification_credit_entries.finished_at is 'When the notification ended.';

grant select on notification_credit_entries to wxnotify_worker;
grant select on notification_credit_entries to wxnotify_operator;
grant select (appid, template_id, fate, accepts, notification_id, event_id, at, accepted_at, finished_at, none_left_at)
    on notification_credit_entries to wxnotify_viewer;
