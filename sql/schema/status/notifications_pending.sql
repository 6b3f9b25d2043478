-- The columns of `notifications` after status, reason and next_at, for rows not final; and the facts its arms ask for.
-- The facts are hashed sub-plans, built once per statement and arm: a join could become a nested loop on stale statistics. A pause
-- that ends before the row's own time does not concern it: that is asked of such rows alone, by primary key.
create or replace view notifications_pending as
select q.id, q.appid, q.openid, q.template_id, q.kind, q.page, q.data, q.lane, q.business_ref, q.dedup_key, q.send_at, q.expire_at,
       q.attempts, q.attempts_max, q.errcode, q.errmsg, q.msgid, q.in_doubt_since, q.may_be_doubled, q.credit, q.duplicate_of, q.worker,
       q.settled_by, q.on_doubt, q.producer, q.last_attempt_at, q.created_at, q.finished_at, q.held, q.due, q.waiting_for, q.last_lease,
       q.extra, q.receipt_at, q.receipt_code, q.receipt_status, q.login_at, q.login_until, q.is_sending, q.app_is_paused,
       q.template_is_paused, q.is_parked, q.is_refused,
       q.app_is_paused or q.template_is_paused or q.is_parked or q.is_refused as is_paused, q.schedule_id, q.local_at, q.check_at
from (
    select p.id, p.appid, p.openid, p.template_id, p.kind, p.page, p.data, p.lane, p.business_ref, p.dedup_key, p.send_at,
           p.expire_at, p.attempts, p.attempts_max, p.last_errcode as errcode, p.last_errmsg as errmsg, null::bigint as msgid,
           p.in_doubt_since, false as may_be_doubled, null::text as credit, null::bigint as duplicate_of, null::text as worker,
           null::text as settled_by, p.on_doubt, p.producer, p.last_attempt_at, p.created_at, null::timestamptz as finished_at,
           p.held, p.due, p.waiting_for, p.last_lease, p.extra,
           null::timestamptz as receipt_at, null::bigint as receipt_code, null::text as receipt_status, p.login_at, p.login_until, p.schedule_id, p.local_at, p.check_at,
           p.id in (select unnest(l.ids) from notification_leases l where l.started_at is not null)
           and (p.last_lease is null or (p.id, p.last_lease) not in (
                select x.id, l.lease_id from notification_leases l cross join lateral unnest(l.ids) x (id)
                where l.started_at is not null)) as is_sending,
           p.appid not in (select a.appid from wechat_apps a
                           where a.paused_until is null or a.paused_until <= statement_timestamp())
           and case when p.due > statement_timestamp() and p.due < 'infinity' and (p.waiting_for is null or p.waiting_for = 'retry')
                    then coalesce((select a.paused_until > p.due from wechat_apps a where a.appid = p.appid), true) else true end as app_is_paused,
           (p.appid, p.template_id) in (select t.appid, t.template_id from wechat_templates t
                                        where t.paused_until > statement_timestamp())
           and case when p.due > statement_timestamp() and p.due < 'infinity' and (p.waiting_for is null or p.waiting_for = 'retry')
                    then (select t.paused_until > p.due from wechat_templates t where t.appid = p.appid and t.template_id = p.template_id)
                    else true end as template_is_paused,
           p.waiting_for is not null and p.waiting_for in ('app', 'template') and p.due > statement_timestamp() as is_parked,
           p.waiting_for is not null and p.waiting_for = 'refused' as is_refused
    from pending_notifications p) q;

comment on view notifications_pending is 'Rows not final, with the facts that decide their status; wxnotify''s own, read notifications instead.';
comment on column notifications_pending.id is 'Kept for life.';
comment on column notifications_pending.appid is 'The mini-program.';
comment on column notifications_pending.openid is 'The receiver.';
comment on column notifications_pending.template_id is 'WeChat''s private template id.';
comment on column notifications_pending.kind is 'one_time, long_term, device or service_card.';
comment on column notifications_pending.page is 'Page that the card opens.';
comment on column notifications_pending.data is 'The fields of the message.';
comment on column notifications_pending.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notifications_pending.business_ref is 'The business object.';
comment on column notifications_pending.dedup_key is 'Of rows with one key one is sent.';
comment on column notifications_pending.send_at is 'Not before.';
comment on column notifications_pending.expire_at is 'Not after.';
comment on column notifications_pending.attempts is 'Sends counted so far.';
comment on column notifications_pending.attempts_max is 'Attempts before it is dead-lettered.';
comment on column notifications_pending.errcode is 'WeChat''s last errcode.';
comment on column notifications_pending.errmsg is 'WeChat''s last errmsg, or the transport failure.';
comment on column notifications_pending.msgid is 'WeChat''s msgid of the accepted message.';
comment on column notifications_pending.in_doubt_since is 'Beginning of the first send whose result is or was unknown.';
comment on column notifications_pending.may_be_doubled is 'True: sent after an earlier send was in doubt, or in doubt more than once; the user may have received it twice.';
comment on column notifications_pending.credit is 'For dead rows, what became of the user''s credit: kept, gone or unknown.';
comment on column notifications_pending.duplicate_of is 'For duplicate: the id that was sent instead.';
comment on column notifications_pending.worker is 'Worker name and epoch that sends it or ended it.';
comment on column notifications_pending.settled_by is 'What ended it: reply, late_reply, event, policy, operator, producer, worker or read_back (WeChat shows the state of the service card).';
comment on column notifications_pending.on_doubt is 'What a doubt leads to: retry or hold.';
comment on column notifications_pending.producer is 'The database user that inserted or armed it.';
comment on column notifications_pending.last_attempt_at is 'When the last attempt was settled.';
comment on column notifications_pending.created_at is 'When it was inserted.';
comment on column notifications_pending.finished_at is 'When it became final; null before.';
comment on column notifications_pending.receipt_at is 'When WeChat''s event said what became of the message; null: it did not (yet).';
comment on column notifications_pending.receipt_code is 'Its ErrorCode: 0 is delivered.';
comment on column notifications_pending.receipt_status is 'Its ErrorStatus: success, or what went wrong.';
comment on column notifications_pending.held is 'True: a credit not armed.';
comment on column notifications_pending.due is 'The next moment something must happen.';
comment on column notifications_pending.waiting_for is 'Why it is not sent now.';
comment on column notifications_pending.last_lease is 'The lease that settled it last without ending it.';
comment on column notifications_pending.extra is 'What only one kind of message needs.';
comment on column notifications_pending.login_at is 'When its login code is exchanged next.';
comment on column notifications_pending.login_until is 'When its login code has expired.';
comment on column notifications_pending.app_is_paused is 'Its app is unknown, or paused beyond its time.';
comment on column notifications_pending.template_is_paused is 'Its template is paused beyond its time.';
comment on column notifications_pending.is_parked is 'It waits out a delay it was given during a pause.';
comment on column notifications_pending.is_refused is 'Its user refuses its template.';
comment on column notifications_pending.is_sending is 'It is in flight.';
comment on column notifications_pending.is_paused is 'Its app is unknown or paused, or its template is paused, beyond its time, or it waits out such a pause, or its user refuses its template.';
comment on column notifications_pending.schedule_id is 'The reminder that made it.';
comment on column notifications_pending.local_at is 'The wall time it was made for.';
comment on column notifications_pending.check_at is 'When the business is asked next whether it is still true.';

grant select on notifications_pending to wxnotify_worker;
grant select on notifications_pending to wxnotify_operator;
grant select (id, appid, template_id, kind, lane, business_ref, send_at, expire_at, attempts, attempts_max, errcode, errmsg, msgid, in_doubt_since, may_be_doubled, credit, duplicate_of, worker, settled_by, on_doubt, producer, last_attempt_at, created_at, finished_at, held, due, waiting_for, last_lease, receipt_at, receipt_code, receipt_status, login_at, login_until, is_sending, app_is_paused, template_is_paused, is_parked, is_refused, is_paused, schedule_id, local_at, check_at)
    on notifications_pending to wxnotify_viewer;
