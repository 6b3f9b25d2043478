-- Each arm says a code; its words stand in notification_reasons. `details` fills their %s; `says` stands for them where WeChat's or the
-- database's own words are the reason. The words are looked up last, for the rows that are shown.
create or replace view notifications as
select n.id, n.appid, n.status,
       coalesce(n.says, (select format(w.words, n.details) from notification_reasons w where w.reason_code = n.reason_code)) as reason, n.next_at, n.openid, n.template_id, n.kind, n.page, n.data, n.lane,
       n.business_ref, n.dedup_key, n.send_at, n.expire_at, n.attempts, n.attempts_max, n.errcode, n.errmsg, n.msgid,
       n.in_doubt_since, n.may_be_doubled, n.credit, n.duplicate_of, n.worker, n.settled_by, n.on_doubt, n.producer,
       n.last_attempt_at, n.created_at, n.finished_at, n.receipt_at, n.receipt_code, n.receipt_status, n.reason_code, n.schedule_id, n.local_at
from (
    select p.status, p.reason_code, p.details, p.says, p.next_at,
           p.id, p.appid, p.openid, p.template_id, p.kind, p.page, p.data, p.lane, p.business_ref, p.dedup_key, p.send_at,
           p.expire_at, p.attempts, p.attempts_max, p.errcode, p.errmsg, p.msgid, p.in_doubt_since, p.may_be_doubled,
           p.credit, p.duplicate_of, p.sent_by as worker, p.settled_by, p.on_doubt, p.producer, p.last_attempt_at,
           p.created_at, p.finished_at, p.receipt_at, p.receipt_code, p.receipt_status, p.schedule_id, p.local_at
    from (
        select 'sending'::text as status, 'being_sent'::text as reason_code, null::text as details, null::text as says, l.expires_at as next_at, l.worker as sent_by, r.*
        from notification_leases l
        cross join lateral unnest(l.ids) as leased (id)
        join notifications_pending r on r.id = leased.id and r.last_lease is distinct from l.lease_id
        where l.started_at is not null

        union all
        select 'held', 'held', null, null, nullif(r.due, 'infinity'), r.worker, r.*
        from notifications_pending r
        where r.held and not r.is_sending

        union all
        select 'in_doubt',
               case when r.kind = 'service_card' and not coalesce(r.extra ? 'ext_json', false) then 'card_in_doubt'
                    when r.waiting_for = 'obstacle' then 'move_refused'
                    else case r.on_doubt when 'hold' then 'doubt_on_hold' else 'in_doubt' end end,
               null, case when r.waiting_for = 'obstacle' and not (r.kind = 'service_card' and not coalesce(r.extra ? 'ext_json', false)) then r.errmsg end,
               nullif(r.due, 'infinity'), r.worker, r.*
        from notifications_pending r
        where r.in_doubt_since is not null and not r.held and not r.is_sending

        union all
        -- paused, 1: the app is unknown or paused, beyond the row's time
        select 'paused', case when a.appid is null then 'unknown_app' else 'app_paused' end, coalesce(a.pause_reason, 'no reason given'), null,
               nullif(least(r.expire_at, r.login_until, case when a.appid is null then 'infinity' else greatest(r.due, a.paused_until, t.paused_until) end), 'infinity'), r.worker, r.*
        from notification_lanes l
        cross join lateral (
            select q.* from notifications_pending q
            where q.appid = l.appid and q.lane = l.lane and q.app_is_paused and q.in_doubt_since is null and not q.held and not q.is_sending
            order by q.due, q.id + 0) r
        left join wechat_apps a on a.appid = r.appid
        left join wechat_templates t on t.appid = r.appid and t.template_id = r.template_id
        where l.app_is_paused

        union all
        -- paused, 2: the template is paused, beyond the row's time. No index leads with the template: this reads the rows of its app.
        select 'paused', case when t.removed_at is not null and t.pause_errcode = 40037 then 'template_removed' else 'template_paused' end,
               coalesce(t.pause_reason, 'no reason given'), null,
               nullif(least(r.expire_at, greatest(nullif(r.due, 'infinity'), t.paused_until)), 'infinity'), r.worker, r.*
        from wechat_templates t
        join notifications_pending r on r.appid = t.appid and r.template_id = t.template_id
        where t.paused_until > statement_timestamp()
          and r.template_is_paused and not r.app_is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        -- paused, 3: the pause is over, the row waits out the delay it was parked with
        select 'paused', 'was_paused', null, null, r.due, r.worker, r.*
        from notifications_pending r
        where r.waiting_for in ('app', 'template') and r.due > statement_timestamp()
          and not r.app_is_paused and not r.template_is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        -- paused, 4: the user refuses the template
        select 'paused', 'user_refused',
               coalesce(' at ' || to_char(f.refused_at, 'YYYY-MM-DD HH24:MI:SSOF'), '') || case f.said_by when '43101' then ' (43101)' else '' end,
               null, r.expire_at, r.worker, r.*
        from notifications_pending r
        left join wechat_refusals f on f.appid = r.appid and f.openid = r.openid and f.template_id = r.template_id
        where r.waiting_for = 'refused'
          and not r.app_is_paused and not r.template_is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        -- paused, 5: its reminder is paused, or being changed, or somebody uses the credit it is to take
        select 'paused', case when exists (select 1 from reminder_schedules s where s.id = r.schedule_id and s.paused_at is not null) then 'reminder_paused'
                              else 'reminder_busy' end, null, null,
               r.due, r.worker, r.*
        from notifications_pending r
        where r.waiting_for = 'reminder'
          and not r.app_is_paused and not r.template_is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        select 'retrying',
               case when r.errcode is not null then 'refused' when r.errmsg is not null then 'failed' else 'waits_for_retry' end,
               coalesce((select '; until ' || to_char(a.paused_until, 'YYYY-MM-DD HH24:MI:SSOF') || ' its app is paused: ' || coalesce(a.pause_reason, 'no reason given')
                                from wechat_apps a where a.appid = r.appid and a.paused_until > statement_timestamp()),
                               (select '; until ' || to_char(t.paused_until, 'YYYY-MM-DD HH24:MI:SSOF') || ' its template is paused: ' || coalesce(t.pause_reason, 'no reason given')
                                from wechat_templates t where t.appid = r.appid and t.template_id = r.template_id and t.paused_until > statement_timestamp()), ''),
               case when r.errcode is not null then r.errcode || coalesce(' ' || e.meaning_en, ' (errcode not in the table)') else r.errmsg end
                   || coalesce((select '; until ' || to_char(a.paused_until, 'YYYY-MM-DD HH24:MI:SSOF') || ' its app is paused: ' || coalesce(a.pause_reason, 'no reason given')
                                from wechat_apps a where a.appid = r.appid and a.paused_until > statement_timestamp()),
                               (select '; until ' || to_char(t.paused_until, 'YYYY-MM-DD HH24:MI:SSOF') || ' its template is paused: ' || coalesce(t.pause_reason, 'no reason given')
                                from wechat_templates t where t.appid = r.appid and t.template_id = r.template_id and t.paused_until > statement_timestamp()), ''),
               r.due, r.worker, r.*
        from notifications_pending r
        left join wechat_errcodes e on e.errcode = r.errcode
        where r.waiting_for = 'retry' and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        -- scheduled, 1: next_at is due alone, so that a condition on it reaches the index. A pause that ends before is a remark.
        select 'scheduled', 'before_send_at',
               coalesce((select '; until ' || to_char(a.paused_until, 'YYYY-MM-DD HH24:MI:SSOF') || ' its app is paused: ' || coalesce(a.pause_reason, 'no reason given')
                                from wechat_apps a where a.appid = r.appid and a.paused_until > statement_timestamp()),
                               (select '; until ' || to_char(t.paused_until, 'YYYY-MM-DD HH24:MI:SSOF') || ' its template is paused: ' || coalesce(t.pause_reason, 'no reason given')
                                from wechat_templates t where t.appid = r.appid and t.template_id = r.template_id and t.paused_until > statement_timestamp()), ''), null, r.due, r.worker, r.*
        from notifications_pending r
        where r.waiting_for is null and r.due > statement_timestamp()
          and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        -- scheduled, by quiet hours or a check
        select 'scheduled', case r.waiting_for when 'quiet' then 'quiet_hours' else 'is_still_true' end, null, null,
               case r.waiting_for when 'quiet' then r.due else greatest(r.send_at, r.check_at) end, r.worker, r.*
        from notifications_pending r
        where (r.waiting_for = 'check' or r.waiting_for = 'quiet' and r.due > statement_timestamp())
          and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        -- scheduled, 2: due now for its login code alone
        select 'scheduled', 'code_before_send_at', null, null, least(r.expire_at, r.send_at), r.worker, r.*
        from notifications_pending r
        where r.waiting_for = 'login' and r.send_at > statement_timestamp()
          and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        -- due, 1: behind another row, or parked for a pause that is over
        select 'due',
               case r.waiting_for
                    when 'user' then 'user_is_busy'
                    when 'pair' then 'pair_in_doubt'
                    when 'login' then 'exchanges_code'
                    when 'obstacle' then 'move_refused'
                    when 'duplicate' then case when exists (select from notification_keys k where k.appid = r.appid and k.dedup_key = r.dedup_key)
                        then 'waits_for_duplicate' else 'key_is_free' end
                    else case when r.expire_at <= statement_timestamp() then 'about_to_expire' else 'waits_for_worker' end end,
               case r.waiting_for when 'duplicate' then (select k.id::text from notification_keys k where k.appid = r.appid and k.dedup_key = r.dedup_key) end,
               case r.waiting_for when 'obstacle' then r.errmsg end,
               coalesce(r.login_at, r.due), r.worker, r.*
        from notifications_pending r
        where (r.waiting_for in ('user', 'pair', 'duplicate', 'obstacle') or (r.waiting_for in ('app', 'template', 'quiet') and r.due <= statement_timestamp())
               or (r.waiting_for = 'login' and coalesce(r.send_at <= statement_timestamp(), true)))
          and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

        union all
        -- due, 2: waits for nothing but a worker
        select 'due',
               case when r.expire_at <= statement_timestamp() then 'about_to_expire' else 'waits_for_worker' end, null, null,
               r.due, r.worker, r.*
        from notification_lanes l
        cross join lateral (
            select q.* from notifications_pending q
            where q.appid = l.appid and q.lane = l.lane and q.due <= statement_timestamp()
              and q.waiting_for is null and not q.template_is_paused and q.in_doubt_since is null and not q.held and not q.is_sending
            order by q.due, q.id + 0) r
        where l.front <= statement_timestamp() and not l.app_is_paused
    ) p

    union all
    select f.ended_as, f.reason_code, f.details, f.says, null,
           f.id, f.appid, f.openid, f.template_id, f.kind, f.page, f.data, f.lane, f.business_ref, f.dedup_key, f.send_at,
           f.expire_at, f.attempts, f.attempts_max, f.errcode, f.errmsg, f.msgid, f.in_doubt_since, f.doubled,
           f.credit, f.duplicate_of, f.worker, f.settled_by, f.on_doubt, f.producer, f.last_attempt_at, f.created_at,
           f.finished_at, f.receipt_at, f.receipt_code, f.receipt_status, f.schedule_id, f.local_at
    -- Only what was sent can be doubled: it is not asked of the others.
    from (
        select 'sent'::text as ended_as, case when r.kind = 'service_card' and r.receipt_at is not null then 'push_failed'
                     when r.receipt_code <> 0 then 'receipt_failed'
                     when r.may_be_doubled and r.settled_by = 'reply' then 'accepted_after_doubt'
                     when r.may_be_doubled then 'arrived_after_doubts'
                     when r.settled_by = 'event' then 'confirmed_by_event'
                     when r.settled_by = 'operator' then 'confirmed_by_operator'
                     when r.settled_by = 'read_back' then 'confirmed_by_card'
                     else 'accepted' end as reason_code,
               coalesce(r.receipt_status, r.receipt_code::text, 'no reason given') as details, null::text as says, r.may_be_doubled as doubled, r.*
        from notifications_final r
        where r.status = 'sent'

        union all
        select 'presumed_sent', case when r.may_be_doubled then 'presumed_sent_after_doubts' else 'presumed_sent' end, null, null, r.may_be_doubled, r.*
        from notifications_final r
        where r.status = 'presumed_sent'

        union all
        select 'dead',
               case when r.errcode is not null then 'refused' when r.errmsg is not null then 'failed' else 'attempts_used_up' end, null,
               case when r.errcode is not null then r.errcode || coalesce(' ' || e.meaning_en, ' (errcode not in the table)') else r.errmsg end, false, r.*
        from notifications_final r
        left join wechat_errcodes e on e.errcode = r.errcode
        where r.status = 'dead'

        union all
        select 'expired', case when r.errmsg = 'quiet hours' then 'expired_in_quiet_hours' else 'expired' end, null, null, false, r.*
        from notifications_final r
        where r.status = 'expired'

        union all
        select 'cancelled', case when r.settled_by = 'operator' then 'cancelled_by_operator' when r.settled_by <> 'policy' then 'cancelled_by_producer'
                            when r.errmsg is null then 'cancelled_for_own_row' when r.schedule_id is null then 'credit_spent'
                            when r.errmsg = 'no credit' then 'reminder_lacks_credit'
                            when r.errmsg = 'the user was taken off the list' then 'taken_off_list'
                            when r.errmsg = 'no longer true' then 'no_longer_true' when r.errmsg = 'its check could not be asked' then 'check_failed'
                            when r.errmsg = 'quiet hours' then 'dropped_in_quiet_hours' else 'cancelled_with_reminder' end,
               case when r.settled_by = 'policy' and r.schedule_id is null then substring(r.errmsg from '[0-9]+$') end,
               case when r.settled_by = 'policy' and r.schedule_id is not null and r.errmsg not in ('no credit', 'the user was taken off the list', 'no longer true', 'its check could not be asked', 'quiet hours') then r.errmsg end,
               false, r.*
        from notifications_final r
        where r.status = 'cancelled'

        union all
        select 'duplicate', 'duplicate', r.duplicate_of::text, null, false, r.*
        from notifications_final r
        where r.status = 'duplicate'

        union all
        select 'unresolved', 'unresolved', null, null, false, r.*
        from notifications_final r
        where r.status = 'unresolved'
    ) f
) n;

comment on view notifications is 'Every notification, pending and final, with its status: the operator''s contract. Filter by id, status, business_ref, or appid and openid.';
comment on column notifications.id is 'Kept for life.';
comment on column notifications.appid is 'The mini-program.';
comment on column notifications.status is 'Not final: held, scheduled, due, sending, retrying, in_doubt, paused. Final: sent, presumed_sent, dead, expired, cancelled, duplicate, unresolved.';
comment on column notifications.reason is 'Why it waits, or how it ended, in a short sentence.';
comment on column notifications.next_at is 'When something next happens to it; null: nothing by itself (final, or an operator must act).';
comment on column notifications.openid is 'The receiver.';
comment on column notifications.template_id is 'WeChat''s private template id.';
comment on column notifications.kind is 'Which of WeChat''s subscriptions the message uses.';
comment on column notifications.page is 'Page that the card opens.';
comment on column notifications.data is 'The fields of the message.';
comment on column notifications.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notifications.business_ref is 'The business object.';
comment on column notifications.dedup_key is 'Of rows with one key one is sent.';
comment on column notifications.send_at is 'Not before.';
comment on column notifications.expire_at is 'Not after.';
comment on column notifications.attempts is 'Sends counted so far.';
comment on column notifications.attempts_max is 'Attempts before it is dead-lettered.';
comment on column notifications.errcode is 'WeChat''s last errcode.';
comment on column notifications.errmsg is 'WeChat''s last errmsg, or the transport failure.';
comment on column notifications.msgid is 'WeChat''s msgid of the accepted message.';
comment on column notifications.in_doubt_since is 'Beginning of the first send whose result is or was unknown.';
comment on column notifications.may_be_doubled is 'True: sent after an earlier send was in doubt, or in doubt more than once; the user may have received it twice.';
comment on column notifications.credit is 'For dead rows, what became of the user''s credit: kept, gone or unknown.';
comment on column notifications.duplicate_of is 'For duplicate: the id that was sent instead.';
comment on column notifications.worker is 'Worker name and epoch that sends it or ended it.';
comment on column notifications.settled_by is 'What ended it: reply, late_reply, event, policy, operator, producer, worker or read_back (WeChat shows the state of the service card).';
comment on column notifications.on_doubt is 'What a doubt leads to: retry or hold.';
comment on column notifications.producer is 'The database user that inserted or armed it.';
comment on column notifications.last_attempt_at is 'When the last attempt was settled.';
comment on column notifications.created_at is 'When it was inserted.';
comment on column notifications.finished_at is 'When it became final; null before.';
comment on column notifications.receipt_at is 'When WeChat''s event said what became of the message; null: it did not (yet).';
comment on column notifications.receipt_code is 'Its ErrorCode: 0 is delivered.';
comment on column notifications.receipt_status is 'Its ErrorStatus: success, or what went wrong.';
comment on column notifications.reason_code is 'The reason as a code, for programs; its words in English and Chinese: notification_reasons.';
comment on column notifications.schedule_id is 'The reminder that made it; null: a producer inserted it.';
comment on column notifications.local_at is 'The wall time, in the reminder''s zone, that it was made for.';

grant select on notifications to wxnotify_worker;
grant select on notifications to wxnotify_operator;
grant select (id, appid, status, reason, next_at, template_id, kind, lane, business_ref, send_at, expire_at, attempts, attempts_max, errcode, errmsg, msgid, in_doubt_since, may_be_doubled, credit, duplicate_of, worker, settled_by, on_doubt, producer, last_attempt_at, created_at, finished_at, receipt_at, receipt_code, receipt_status, reason_code, schedule_id, local_at)
    on notifications to wxnotify_viewer;
