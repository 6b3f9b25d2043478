-- The incident set: forty cases that people have been woken for, each with its right answer, to practise on and to test with.
-- Run it as the schema's owner in an empty database with wxnotify's schema: `psql -f sql/demo/incidents.sql`. No worker may run there.
--
-- Above each case stands `number | status | words of the answer`: what explain_notification() says of the row whose business_ref is
-- incident-<number>. The backlog of case 40 has as many rows as `-c wxnotify.incident_backlog=…` says (1,000).
begin;

do $$ begin
    if exists (select from pending_notifications) or exists (select from notification_history) or exists (select from wechat_apps) then
        raise exception 'the incident set wants an empty database: this one has mini-programs or notifications'
            using hint = 'Create another database and run `wxnotify migrate` there first.';
    end if;
end $$;

create function pg_temp.waits(p_number int, p_columns jsonb default '{}') returns bigint language sql as $$
    insert into pending_notifications overriding system value
    select p.*
    from jsonb_populate_record(null::pending_notifications, jsonb_build_object(
        'id', nextval(pg_get_serial_sequence('pending_notifications', 'id')), 'appid', 'wxincident-shop', 'kind', 'one_time',
        'openid', 'oUserOfIncident' || lpad(p_number::text, 2, '0'), 'template_id', 'tmplOrderIsReady', 'data', '{"thing1": {"value": "订单"}}'::jsonb,
        'miniprogram_state', 'formal', 'lang', 'zh_CN', 'held', false, 'lane', 1, 'on_doubt', 'retry', 'attempts_max', 8,
        'business_ref', 'incident-' || lpad(p_number::text, 2, '0'), 'created_at', now() - interval '10 minutes',
        'due', now() - interval '10 minutes', 'attempts', 0, 'rescues', 0, 'producer', 'shop', 'login_claims', 0, 'login_unclear', 0) || p_columns) p
    returning id
$$;

create function pg_temp.ended(p_number int, p_status text, p_columns jsonb default '{}') returns bigint language sql as $$
    insert into notification_history
    select h.*
    from jsonb_populate_record(null::notification_history, jsonb_build_object(
        'id', nextval(pg_get_serial_sequence('pending_notifications', 'id')), 'appid', 'wxincident-shop', 'status', p_status, 'kind', 'one_time',
        'openid', 'oUserOfIncident' || lpad(p_number::text, 2, '0'), 'template_id', 'tmplOrderIsReady', 'data', '{"thing1": {"value": "订单"}}'::jsonb,
        'miniprogram_state', 'formal', 'lang', 'zh_CN', 'held', false, 'lane', 1, 'on_doubt', 'retry', 'attempts_max', 8, 'attempts', 1,
        'business_ref', 'incident-' || lpad(p_number::text, 2, '0'), 'created_at', now() - interval '3 hours', 'producer', 'shop',
        'settled_by', 'reply', 'worker', 'worker-a#1', 'errcode', case p_status when 'sent' then 0 end,
        'msgid', case p_status when 'sent' then 4000000000000000000 + p_number end, 'finished_at', now() - interval '3 hours' + interval '1 second') || p_columns) h
    returning id
$$;

create function pg_temp.attempted(p_id bigint, p_result text, p_columns jsonb default '{}') returns void language sql as $$
    insert into notification_attempts
    select a.*
    from jsonb_populate_record(null::notification_attempts, jsonb_build_object('notification_id', p_id, 'appid', 'wxincident-shop', 'attempt', 1,
        'result', p_result, 'worker', 'worker-a#1', 'started_at', now() - interval '3 hours', 'response_ms', 80, 'http_status', 200,
        'finished_at', now() - interval '3 hours' + interval '1 second') || p_columns) a
$$;

create function pg_temp.said(p_number int, p_event text, p_columns jsonb default '{}') returns void language sql as $$
    insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at, received_at, payload, dedup_hash, error_code, error_status, applied_at, answer, notification_id)
    select e.appid, e.event, e.openid, e.template_id, e.msgid, e.occurred_at, e.received_at, e.payload, e.dedup_hash, e.error_code, e.error_status, e.applied_at, e.answer, e.notification_id
    from jsonb_populate_record(null::wechat_events, jsonb_build_object('appid', 'wxincident-shop', 'event', p_event,
        'openid', 'oUserOfIncident' || lpad(p_number::text, 2, '0'), 'template_id', 'tmplOrderIsReady', 'occurred_at', now() - interval '4 hours',
        'received_at', now() - interval '4 hours', 'payload', '{}'::jsonb, 'dedup_hash', '\x' || md5(random()::text), 'applied_at', null) || p_columns) e
$$;

-- The mini-programs: one that works, and one for each thing that stops a whole one
insert into wechat_apps (appid, name, created_at, first_receipt_at, rate_per_second, paused_until, pause_reason, pause_errcode, quota_daily_limit, quota_used, quota_remaining, quota_read_at) values
    ('wxincident-shop',   '商城',   now() - interval '30 days', now() - interval '29 days', 100, null, null, null, 100000, 42000, 58000, now() - interval '5 minutes'),
    ('wxincident-manual', '活动',   now() - interval '30 days', null, null, 'infinity', 'the menu is wrong', null, null, null, null, null),
    ('wxincident-token',  '会员',   now() - interval '30 days', null, null, now() + interval '4 minutes', '40001 access_token invalid or not the latest', 40001, null, null, null, null),
    ('wxincident-quota',  '外卖',   now() - interval '30 days', null, null, now() + interval '9 hours', '45009 the daily quota is used up', 45009, 50000, 50000, 0, now() - interval '5 minutes'),
    ('wxincident-ip',     '票务',   now() - interval '30 days', null, null, now() + interval '4 minutes', '40164 this server''s IP address is not in the whitelist', 40164, null, null, null, null),
    ('wxincident-secret', '预约',   now() - interval '30 days', null, null, 'infinity', '40125 invalid AppSecret', 40125, null, null, null, null),
    ('wxincident-orphan', '问卷',   now() - interval '30 days', null, null, null, null, null, null, null, null, null),
    ('wxincident-bulk',   '推广',   now() - interval '30 days', null, 100, null, null, null, null, null, null, null);
insert into wechat_templates (appid, template_id, title, kind, paused_until, pause_reason, pause_errcode, removed_at) values
    ('wxincident-shop', 'tmplDeleted', '取餐提醒', 'one_time', 'infinity', wxnotify_removed_reason(), 40037, now() - interval '2 days'),
    ('wxincident-shop', 'tmplBanned', '优惠提醒', 'one_time', 'infinity', '43107 the ability to send is banned', 43107, null);
insert into wechat_access_tokens (appid, access_token, expires_at, generation, fetched_at, refreshed_by, foreign_refreshes, last_foreign_at) values
    ('wxincident-shop', 'not-a-token', now() + interval '90 minutes', 12, now() - interval '30 minutes', 'worker-a#1', 0, null),
    ('wxincident-token', 'not-a-token', now() + interval '1 hour', 80, now() - interval '1 minute', 'worker-a#1', 23, now() - interval '1 minute');
insert into notification_workers (name, epoch, version, appids, started_at, heartbeat_at, in_flight) overriding system value values
    ('worker-a', 1, '0.2.0', '{wxincident-shop,wxincident-manual,wxincident-token,wxincident-quota,wxincident-ip,wxincident-secret,wxincident-bulk}', now() - interval '1 day', now(), 1),
    ('worker-b', 2, '0.2.0', '{wxincident-shop}', now() - interval '1 day', now() - interval '5 minutes', 1);
insert into operator_actions (at, actor, action, filter, rows_changed, note) values
    (now() - interval '1 hour', 'operator (li)', 'pause_app', '{"appid": "wxincident-manual", "until": "infinity"}', 1, 'until the menu is mended');

-- 01 | sent | confirmed it
select pg_temp.ended(1, 'sent', jsonb_build_object('receipt_at', now() - interval '3 hours' + interval '2 seconds', 'receipt_code', 0, 'receipt_status', 'success'));
-- 02 | sent | reported a failure
select pg_temp.ended(2, 'sent', jsonb_build_object('receipt_at', now() - interval '3 hours' + interval '2 seconds', 'receipt_code', 1, 'receipt_status', 'user refuse to accept'));
-- 03 | sent | accepted by WeChat.
select pg_temp.ended(3, 'sent');
-- 04 | dead | Which 43101: never accepted
select pg_temp.attempted(pg_temp.ended(4, 'dead', '{"errcode": 43101, "errmsg": "user refuse to accept the msg", "credit": "gone"}'), 'dead', '{"errcode": 43101}');
-- 05 | dead | Which 43101: refused, certain
select pg_temp.attempted(pg_temp.ended(5, 'dead', '{"errcode": 43101, "errmsg": "user refuse to accept the msg", "credit": "gone"}'), 'dead', '{"errcode": 43101}');
select pg_temp.said(5, 'subscribe_msg_popup_event', jsonb_build_object('answer', 'reject', 'occurred_at', now() - interval '3 hours' + interval '0.5 seconds'));
-- 06 | dead | Which 43101: used up
select pg_temp.said(6, 'subscribe_msg_popup_event', jsonb_build_object('answer', 'accept', 'notification_id',
    pg_temp.ended(6, 'sent', jsonb_build_object('business_ref', null, 'finished_at', now() - interval '4 hours', 'created_at', now() - interval '4 hours', 'receipt_at', now() - interval '4 hours', 'receipt_code', 0))));
select pg_temp.attempted(pg_temp.ended(6, 'dead', '{"errcode": 43101, "errmsg": "user refuse to accept the msg", "credit": "gone"}'), 'dead', '{"errcode": 43101}');
-- 07 | dead | Which 43101: spent elsewhere, certain
select pg_temp.said(7, 'subscribe_msg_sent_event', '{"msgid": 3999999999999999999, "error_code": 0, "error_status": "success"}');
select pg_temp.attempted(pg_temp.ended(7, 'dead', '{"errcode": 43101, "errmsg": "user refuse to accept the msg", "credit": "gone"}'), 'dead', '{"errcode": 43101}');
-- 08 | dead | a field is empty or breaks its rule
select pg_temp.attempted(pg_temp.ended(8, 'dead', '{"errcode": 47003, "errmsg": "argument invalid! data.thing1.DATA is empty", "credit": "kept"}'), 'dead', '{"errcode": 47003}');
-- 09 | dead | 40003
select pg_temp.attempted(pg_temp.ended(9, 'dead', '{"errcode": 40003, "errmsg": "invalid openid", "credit": "unknown"}'), 'dead', '{"errcode": 40003}');
-- 10 | dead | 41030
select pg_temp.attempted(pg_temp.ended(10, 'dead', '{"errcode": 41030, "errmsg": "invalid page", "credit": "kept"}'), 'dead', '{"errcode": 41030}');
-- 11 | dead | Its receiver never became known
select pg_temp.attempted(pg_temp.ended(11, 'dead', '{"openid": null, "errcode": 40163, "errmsg": "code been used", "credit": "kept"}'), 'dead', '{"errcode": 40163}');
-- 12 | dead | after 8 attempt(s)
select pg_temp.attempted(pg_temp.ended(12, 'dead', '{"errcode": -1, "errmsg": "system error", "credit": "unknown", "attempts": 8}'), 'dead', '{"errcode": -1, "attempt": 8}');
-- 13 | expired | The credit was not spent
select pg_temp.ended(13, 'expired', jsonb_build_object('settled_by', 'worker', 'attempts', 0, 'send_at', now() - interval '3 hours', 'expire_at', now() - interval '3 hours'));
-- 14 | in_doubt | confirm_sent(id), confirm_not_sent(id) or retry_anyway(id)
select pg_temp.attempted(pg_temp.waits(14, jsonb_build_object('on_doubt', 'hold', 'waiting_for', 'doubt', 'attempts', 1, 'in_doubt_since', now() - interval '2 hours', 'due', now() + interval '22 hours')),
    'doubt', jsonb_build_object('reason', 'the connection was closed before an answer', 'http_status', null, 'finished_at', now() - interval '2 hours'));
-- 15 | in_doubt | without any it is sent again, and the user may receive it twice
select pg_temp.attempted(pg_temp.waits(15, jsonb_build_object('waiting_for', 'doubt', 'attempts', 1, 'in_doubt_since', now() - interval '1 minute', 'due', now() + interval '9 minutes')),
    'doubt', jsonb_build_object('reason', 'no answer within 5 s', 'http_status', null, 'finished_at', now() - interval '1 minute'));
-- 16 | in_doubt | no attempt or no time is left
select pg_temp.attempted(pg_temp.waits(16, jsonb_build_object('waiting_for', 'doubt', 'attempts', 8, 'in_doubt_since', now() - interval '1 minute', 'due', now() + interval '9 minutes')),
    'doubt', jsonb_build_object('reason', 'no answer within 5 s', 'http_status', null, 'attempt', 8, 'finished_at', now() - interval '1 minute'));
-- 17 | unresolved | perhaps a second time
select pg_temp.attempted(pg_temp.ended(17, 'unresolved', jsonb_build_object('settled_by', 'policy', 'errcode', null, 'in_doubt_since', now() - interval '1 day')), 'doubt', '{"reason": "no answer within 5 s", "http_status": null}');
-- 18 | presumed_sent | the doubtful send had spent the credit
select pg_temp.attempted(pg_temp.ended(18, 'presumed_sent', jsonb_build_object('attempts', 2, 'errcode', 43101, 'in_doubt_since', now() - interval '4 hours')), 'presumed_sent', '{"errcode": 43101, "attempt": 2}');
-- 19 | sent | it may have arrived twice
select pg_temp.attempted(pg_temp.ended(19, 'sent', jsonb_build_object('attempts', 2, 'in_doubt_since', now() - interval '4 hours')), 'doubt',
    jsonb_build_object('reason', 'no answer within 5 s', 'http_status', null, 'started_at', now() - interval '4 hours', 'finished_at', now() - interval '4 hours'));
-- 20 | paused | wxnotify app resume wxincident-manual
select pg_temp.waits(20, '{"appid": "wxincident-manual"}');
-- 21 | paused | 40001
select pg_temp.waits(21, jsonb_build_object('appid', 'wxincident-token', 'waiting_for', 'app', 'due', now() + interval '4 minutes'));
-- 22 | paused | 45009
select pg_temp.waits(22, jsonb_build_object('appid', 'wxincident-quota', 'waiting_for', 'app', 'due', now() + interval '9 hours'));
-- 23 | paused | 40164
select pg_temp.waits(23, jsonb_build_object('appid', 'wxincident-ip', 'waiting_for', 'app', 'due', now() + interval '4 minutes'));
-- 24 | paused | wxnotify app resume wxincident-secret
select pg_temp.waits(24, '{"appid": "wxincident-secret"}');
-- 25 | paused | wxnotify app add wxincident-unknown
select pg_temp.waits(25, '{"appid": "wxincident-unknown"}');
-- 26 | sending | Without one it is in doubt after
insert into notification_leases (appid, lease_id, worker, ids, user_keys, leased_at, started_at, expires_at) overriding system value
select 'wxincident-shop', nextval(pg_get_serial_sequence('notification_leases', 'lease_id')), 'worker-b#2', array[pg_temp.waits(26)], '{26}', now() - interval '6 minutes', now() - interval '6 minutes', now() - interval '4 minutes';
-- 27 | due | No live worker serves this app
select pg_temp.waits(27, '{"appid": "wxincident-orphan"}');
-- 28 | dead | It was redriven as notification
insert into notification_redrives (redriven_id, new_id, appid, at, actor)
select pg_temp.ended(28, 'dead', '{"errcode": 47003, "errmsg": "argument invalid! data.thing1.DATA is empty", "credit": "kept"}'),
       pg_temp.ended(28, 'sent', jsonb_build_object('business_ref', null, 'created_at', now() - interval '2 hours', 'finished_at', now() - interval '2 hours')), 'wxincident-shop', now() - interval '2 hours', 'operator (li)';
-- 29 | dead | It was redriven as notification
with chain as materialized (
    select pg_temp.ended(29, 'dead', '{"errcode": -1, "errmsg": "system error", "credit": "unknown"}') as first,
           pg_temp.ended(29, 'dead', jsonb_build_object('business_ref', null, 'errcode', -1, 'credit', 'unknown', 'created_at', now() - interval '2 hours', 'finished_at', now() - interval '2 hours')) as second,
           pg_temp.waits(29, jsonb_build_object('business_ref', null, 'send_at', now() + interval '1 hour')) as third)
insert into notification_redrives (redriven_id, new_id, appid, at, actor)
select first, second, 'wxincident-shop', now() - interval '2 hours', 'operator (li)' from chain
union all select second, third, 'wxincident-shop', now() - interval '30 minutes', 'operator (wang)' from chain;
insert into operator_actions (at, actor, action, filter, rows_changed, note) values
    (now() - interval '2 hours', 'operator (li)', 'redrive', '{"errcode": 47003}', 2, 'the field is filled again'),
    (now() - interval '30 minutes', 'operator (wang)', 'redrive', '{"errcode": -1}', 1, 'WeChat is back');
-- 30 | cancelled | by its producer
select pg_temp.ended(30, 'cancelled', '{"settled_by": "producer", "attempts": 0}');
-- 31 | cancelled | by an operator
select pg_temp.ended(31, 'cancelled', '{"settled_by": "operator", "attempts": 0}');
insert into operator_actions (at, actor, action, filter, rows_changed, note) values
    (now() - interval '3 hours', 'operator (li)', 'cancel', '{"business_ref": "incident-31"}', 1, 'the class is called off');
-- 32 | cancelled | made of an accept whose own row came later
select pg_temp.ended(32, 'cancelled', '{"settled_by": "policy", "attempts": 0, "held": true}');
-- 33 | duplicate | with the same dedup_key was sent instead
select pg_temp.ended(33, 'duplicate', jsonb_build_object('settled_by', 'worker', 'attempts', 0, 'dedup_key', 'incident-33',
    'duplicate_of', pg_temp.ended(33, 'sent', '{"business_ref": null, "dedup_key": "incident-33"}')));
-- 34 | scheduled | not to be sent before
select pg_temp.waits(34, jsonb_build_object('send_at', now() + interval '1 day'));
-- 35 | held | Arm it with
select pg_temp.waits(35, '{"held": true, "data": {}}');
-- 36 | paused | the user's next accept
insert into wechat_refusals (appid, openid, template_id, refused_at, said_by) values ('wxincident-shop', 'oUserOfIncident36', 'tmplOrderIsReady', now() - interval '1 hour', 'change');
select pg_temp.waits(36, jsonb_build_object('waiting_for', 'refused', 'due', 'infinity', 'expire_at', now() + interval '3 days'));
-- 37 | retrying | Attempt 2 of 8 failed
select pg_temp.attempted(pg_temp.waits(37, jsonb_build_object('waiting_for', 'retry', 'attempts', 2, 'last_errcode', -1, 'last_errmsg', 'system error', 'last_attempt_at', now() - interval '1 minute', 'due', now() + interval '3 minutes')),
    'retry', jsonb_build_object('errcode', -1, 'attempt', 2, 'finished_at', now() - interval '1 minute'));
-- 38 | paused | does not list this template any more
select pg_temp.waits(38, '{"template_id": "tmplDeleted"}');
-- 39 | paused | wxnotify template resume wxincident-shop tmplBanned
select pg_temp.waits(39, '{"template_id": "tmplBanned"}');
-- 40 | due | A worker takes it when its turn comes
select pg_temp.waits(40, jsonb_build_object('appid', 'wxincident-bulk', 'lane', 2, 'created_at', now() - interval '2 hours'));
insert into pending_notifications (appid, openid, template_id, data, lane, created_at)
select 'wxincident-bulk', 'oUserOfBulk' || n, 'tmplOffer', '{"thing1": "优惠"}', 2, now() - interval '2 hours'
from generate_series(2, coalesce(nullif(current_setting('wxnotify.incident_backlog', true), ''), '1000')::int) n;

commit;
