-- The same columns for final rows.
create or replace view notifications_final as
select h.id, h.appid, h.openid, h.template_id, h.kind, h.page, h.data, h.lane, h.business_ref, h.dedup_key, h.send_at,
       h.expire_at, h.attempts, h.attempts_max, h.errcode, h.errmsg, h.msgid,
       h.in_doubt_since,
       -- Accepted after a doubt; or doubtful more than once, whatever proved that one of those sends arrived. Attempts
       -- before in_doubt_since do not count: their doubt was ended by a proof that nothing had arrived.
       case when h.in_doubt_since is null or h.status not in ('sent', 'presumed_sent') then false
            when h.status = 'sent' and h.settled_by = 'reply' then true
            else (select count(*) > 1 from notification_attempts a
                  where a.notification_id = h.id and a.result = 'doubt'
                    and coalesce(a.started_at, a.finished_at) >= h.in_doubt_since) end as may_be_doubled,
       h.credit, h.duplicate_of, h.worker,
       h.settled_by, h.on_doubt, h.producer, h.last_attempt_at, h.created_at, h.finished_at,
       h.held, h.status, h.receipt_at, h.receipt_code, h.receipt_status, h.schedule_id, h.local_at
from notification_history h;

comment on view notifications_final is 'Final rows in the shape of notifications; wxnotify''s own, read notifications instead.';
comment on column notifications_final.id is 'Kept for life.';
comment on column notifications_final.appid is 'The mini-program.';
comment on column notifications_final.openid is 'The receiver.';
comment on column notifications_final.template_id is 'WeChat''s private template id.';
comment on column notifications_final.kind is 'one_time, long_term, device or service_card.';
comment on column notifications_final.page is 'Page that the card opens.';
comment on column notifications_final.data is 'The fields of the message.';
comment on column notifications_final.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notifications_final.business_ref is 'The business object.';
comment on column notifications_final.dedup_key is 'Of rows with one key one is sent.';
comment on column notifications_final.send_at is 'Not before.';
comment on column notifications_final.expire_at is 'Not after.';
comment on column notifications_final.attempts is 'Sends counted so far.';
comment on column notifications_final.attempts_max is 'Attempts before it is dead-lettered.';
comment on column notifications_final.errcode is 'WeChat''s last errcode.';
comment on column notifications_final.errmsg is 'WeChat''s last errmsg, or the transport failure.';
comment on column notifications_final.msgid is 'WeChat''s msgid of the accepted message.';
comment on column notifications_final.in_doubt_since is 'Beginning of the first send whose result is or was unknown.';
comment on column notifications_final.may_be_doubled is 'True: sent after an earlier send was in doubt, or in doubt more than once; the user may have received it twice.';
comment on column notifications_final.credit is 'For dead rows, what became of the user''s credit: kept, gone or unknown.';
comment on column notifications_final.duplicate_of is 'For duplicate: the id that was sent instead.';
comment on column notifications_final.worker is 'Worker name and epoch that sends it or ended it.';
comment on column notifications_final.settled_by is 'What ended it: reply, late_reply, event, policy, operator, producer, worker or read_back (WeChat shows the state of the service card).';
comment on column notifications_final.on_doubt is 'What a doubt leads to: retry or hold.';
comment on column notifications_final.producer is 'The database user that inserted or armed it.';
comment on column notifications_final.last_attempt_at is 'When the last attempt was settled.';
comment on column notifications_final.created_at is 'When it was inserted.';
comment on column notifications_final.finished_at is 'When it became final; null before.';
comment on column notifications_final.receipt_at is 'When WeChat''s event said what became of the message; null: it did not (yet).';
comment on column notifications_final.receipt_code is 'Its ErrorCode: 0 is delivered.';
comment on column notifications_final.receipt_status is 'Its ErrorStatus: success, or what went wrong.';
comment on column notifications_final.held is 'True: a credit not armed.';
comment on column notifications_final.status is 'How it ended.';
comment on column notifications_final.schedule_id is 'The reminder that made it.';
comment on column notifications_final.local_at is 'The wall time it was made for.';

grant select on notifications_final to wxnotify_worker;
grant select on notifications_final to wxnotify_operator;
grant select (id, appid, template_id, kind, lane, business_ref, send_at, expire_at, attempts, attempts_max, errcode, errmsg, msgid, in_doubt_since, may_be_doubled, credit, duplicate_of, worker, settled_by, on_doubt, producer, last_attempt_at, created_at, finished_at, held, status, receipt_at, receipt_code, receipt_status, schedule_id, local_at)
    on notifications_final to wxnotify_viewer;
