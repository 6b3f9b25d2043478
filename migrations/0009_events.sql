-- What WeChat says by callback: events are stored as received, deduplicated, and applied afterwards.
--
-- A sent event names a msgid. It is the evidence that ends a doubt (wxnotify_weigh), and the receipt of a row that was
-- settled: receipt_at, receipt_code and receipt_status of notification_history. It may come before its row is settled, so an
-- event that finds no row is looked at again, later and later; settling itself knows nothing of receipts and costs the same.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

alter table wechat_events
    alter column openid drop not null,
    alter column template_id drop not null,
    add column payload jsonb,
    add column dedup_hash bytea,
    add column error_code bigint,
    add column error_status text,
    add column apply_at timestamptz,
    add column applied_at timestamptz,
    drop constraint wechat_events_appid_event_msgid_key;
-- A late reply is told apart by its msgid, an event of WeChat by its whole content: of one message it may say two things.
create unique index on wechat_events (appid, event, msgid) where dedup_hash is null;
create unique index on wechat_events (appid, dedup_hash);
create index on wechat_events (apply_at) where apply_at is not null;
-- For retention, which keeps events with and without a msgid for different times.
create index on wechat_events ((msgid is null), received_at);
comment on column wechat_events.openid is 'The receiver; null for an event about no user.';
comment on column wechat_events.template_id is 'The template; null for an event about none.';
comment on column wechat_events.payload is 'The event as WeChat sent it, as JSON, its List narrowed to the entry this row is about; null for a late reply.';
comment on column wechat_events.dedup_hash is 'SHA-256 over what makes the event the same when WeChat repeats it; null for a late reply.';
comment on column wechat_events.error_code is 'ErrorCode of a sent event: 0 is delivered.';
comment on column wechat_events.error_status is 'ErrorStatus of a sent event: success, or what went wrong.';
comment on column wechat_events.apply_at is 'When its row is looked for (again); null: it is applied, given up, or not applied to rows.';
comment on column wechat_events.applied_at is 'When it was recorded as the receipt of its row.';

alter table notification_history
    add column receipt_at timestamptz,
    add column receipt_code bigint,
    add column receipt_status text;
comment on column notification_history.receipt_at is 'When WeChat said what became of the message; null: it did not say (yet).';
comment on column notification_history.receipt_code is 'ErrorCode of WeChat''s sent event: 0 is delivered.';
comment on column notification_history.receipt_status is 'ErrorStatus of WeChat''s sent event: success, or what went wrong.';

alter table wechat_apps add column first_receipt_at timestamptz;
comment on column wechat_apps.first_receipt_at is 'When a message was first confirmed by WeChat''s sent event; null: never, its callbacks do not reach us.';

-- Stores an event of WeChat, decoded but otherwise as received, one row for each entry of its List. Returns how many were new:
-- 0 when all were known; null when it is nothing that wxnotify keeps (a chat message, another kind of event). What follows
-- from it follows after the commit: wxnotify_weigh and wxnotify_apply_events, which workers call every second.
create function wxnotify_ingest_event(p_appid text, p_payload jsonb) returns integer
language plpgsql volatile set search_path from current as $$
declare
    v_event   text := p_payload ->> 'Event';
    v_openid  text := coalesce(p_payload ->> 'FromUserName', p_payload ->> 'openid');
    v_created text := p_payload ->> 'CreateTime';
    v_wrapper text;
    v_list    jsonb;
    v_stored  int;
begin
    if p_appid is null or p_payload is null or jsonb_typeof(p_payload) <> 'object' then
        raise exception 'an event is a JSON object' using errcode = 'invalid_parameter_value',
            hint = 'wxnotify_ingest_event(''wx…'', ''{"Event": "subscribe_msg_sent_event", …}'')';
    end if;
    if v_event is null or v_event not in ('subscribe_msg_sent_event', 'subscribe_msg_popup_event', 'subscribe_msg_change_event',
            'notify_service_msg_send_result', 'wxa_punish_event') then
        return null;
    end if;
    if octet_length(p_payload::text) > 131072 or length(p_appid) > 64 or length(v_openid) > 128 then
        raise exception 'the event is too large' using errcode = 'invalid_parameter_value';
    end if;
    if v_created is null and v_event = 'wxa_punish_event' then
        v_created := floor(extract(epoch from clock_timestamp()))::text;
    end if;
    if v_created is null or v_created !~ '^[0-9]{1,10}$' then
        raise exception 'CreateTime of an event must be Unix seconds' using errcode = 'invalid_parameter_value';
    end if;

    if v_event like 'subscribe_msg_%' then
        -- JSON has List at the top, XML inside an element named after the event; one entry is an object, several an array.
        v_list := p_payload -> 'List';
        if v_list is null then
            select w.key, w.value -> 'List' into v_wrapper, v_list
            from jsonb_each(p_payload) w where jsonb_typeof(w.value) = 'object' and w.value ? 'List' limit 1;
        end if;
        if jsonb_typeof(v_list) = 'object' then
            v_list := jsonb_build_array(v_list);
        end if;
        if v_list is null or jsonb_typeof(v_list) <> 'array' or jsonb_array_length(v_list) not between 1 and 100
                or exists (select 1 from jsonb_array_elements(v_list) x
                           where jsonb_typeof(x) <> 'object' or length(x ->> 'TemplateId') not between 1 and 128 or not x ? 'TemplateId') then
            raise exception 'List of % must hold 1 to 100 entries, each with its TemplateId', v_event using errcode = 'invalid_parameter_value';
        end if;
    else
        v_list := '[{}]';
    end if;

    with entries as (
        select x.entry, x.n,
               case when x.entry ->> 'MsgID' ~ '^[0-9]{1,18}$|^[1-8][0-9]{18}$|^9[01][0-9]{17}$' then (x.entry ->> 'MsgID')::bigint end as msgid,
               -- numbers and their text are the same
               (select jsonb_object_agg(f.key, f.value #>> '{}')
                from jsonb_each(case when v_list = '[{}]' then p_payload else x.entry end) f) as said
        from jsonb_array_elements(v_list) with ordinality x (entry, n))
    insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at, payload, dedup_hash, error_code, error_status, apply_at)
    select p_appid, v_event, v_openid, entry ->> 'TemplateId', msgid, to_timestamp(v_created::float8),
           case when v_list = '[{}]' then p_payload
                else p_payload - 'List' - 'Encrypt' - coalesce(v_wrapper, '') || jsonb_build_object('List', entry) end,
           sha256(convert_to(jsonb_build_array(v_event, v_openid, v_created, said)::text, 'UTF8')),
           case when entry ->> 'ErrorCode' ~ '^-?[0-9]{1,18}$' then (entry ->> 'ErrorCode')::bigint when entry ->> 'ErrorStatus' = 'success' then 0 end,
           left(entry ->> 'ErrorStatus', 500),
           case when v_event = 'subscribe_msg_sent_event' and msgid is not null then clock_timestamp() end
    from entries order by n
    on conflict do nothing;
    get diagnostics v_stored = row_count;
    return v_stored;
end $$;
comment on function wxnotify_ingest_event is 'Stores an event WeChat pushed, for callers with a callback URL of their own: (appid, the decrypted event as JSON). Returns how many entries were new; null: nothing that wxnotify keeps.';

-- WeChat dates an event in whole seconds, by its own clock: five seconds of grace, or the event of a send begun in the same second
-- would be no evidence. A late reply is dated by ours.
create or replace function wxnotify_unowned_events(p_appid text, p_openid text, p_template_id text, p_since timestamptz) returns setof bigint
language sql stable set search_path from current as $$
    select e.msgid from wechat_events e
    where e.appid = p_appid and e.openid = p_openid and e.template_id = p_template_id and e.msgid is not null
      and e.occurred_at >= p_since - case e.event when 'late_reply' then interval '0' else interval '5 seconds' end
      and not exists (select 1 from notification_history h
                      where h.appid = p_appid and h.openid = p_openid and h.template_id = p_template_id and h.msgid = e.msgid)
    order by e.occurred_at
$$;

-- Records sent events as receipts of their rows, at most p_rows a call. One whose row is not final yet, or not ours, is looked at
-- again after as long as it has waited, and given up after eight days: by then a doubt has ended too. Returns how many were looked at.
create function wxnotify_apply_events(p_rows int default 500) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_ids   bigint[];
    v_found bigint[];
begin
    perform wxnotify_need_read_committed();
    v_ids := array(select e.id from wechat_events e where e.apply_at <= v_now order by e.apply_at limit p_rows for update skip locked);
    if v_ids = '{}' then
        return 0;
    end if;
    -- The bound on finished_at keeps old partitions out: a row is final before its event, or soon after.
    v_found := array(
        select e.id from unnest(v_ids) u (id) join wechat_events e on e.id = u.id
        where exists (select 1 from notification_history h
                      where h.appid = e.appid and h.openid = e.openid and h.template_id = e.template_id and h.msgid = e.msgid
                        and h.finished_at >= e.occurred_at - interval '3 days'));
    -- Of two events about one message the later counts, whatever the order they are applied in.
    update notification_history h
    set receipt_at = r.occurred_at, receipt_code = r.error_code, receipt_status = r.error_status
    from (select distinct on (e.appid, e.openid, e.template_id, e.msgid) e.*
          from unnest(v_found) u (id) join wechat_events e on e.id = u.id
          order by e.appid, e.openid, e.template_id, e.msgid, e.occurred_at desc, e.id) r
    where h.appid = r.appid and h.openid = r.openid and h.template_id = r.template_id and h.msgid = r.msgid
      and h.finished_at >= r.occurred_at - interval '3 days'
      and (h.receipt_at is null or h.receipt_at < r.occurred_at);
    update wechat_apps a set first_receipt_at = v_now
    where a.first_receipt_at is null
      and a.appid in (select e.appid from unnest(v_found) u (id) join wechat_events e on e.id = u.id);
    update wechat_events e
    set applied_at = case when e.id = any (v_found) then v_now end,
        apply_at = case when e.id <> all (v_found) and v_now - e.received_at < interval '8 days'
                        then v_now + greatest(v_now - e.received_at, interval '1 second') end
    where e.id = any (v_ids);
    return cardinality(v_ids);
end $$;
comment on function wxnotify_apply_events is 'Records WeChat''s sent events as receipts of their notifications.';

-- The views again, with the receipt at their end.
create or replace view notifications_pending as
select p.id, p.appid, p.openid, p.template_id, p.kind, p.page, p.data, p.lane, p.business_ref, p.dedup_key, p.send_at,
       p.expire_at, p.attempts, p.attempts_max, p.last_errcode as errcode, p.last_errmsg as errmsg, null::bigint as msgid,
       p.in_doubt_since, false as may_be_doubled, null::text as credit, null::bigint as duplicate_of, null::text as worker,
       null::text as settled_by, p.on_doubt, p.producer, p.last_attempt_at, p.created_at, null::timestamptz as finished_at,
       p.held, p.due, p.waiting_for,
       p.id in (select f.id from notifications_in_flight f) as is_sending,
       p.appid not in (select a.appid from wechat_apps a
                       where a.paused_until is null or a.paused_until <= statement_timestamp())
       or (p.appid, p.template_id) in (select t.appid, t.template_id from wechat_templates t
                                       where t.paused_until > statement_timestamp())
       or (p.waiting_for is not null and p.waiting_for in ('app', 'template') and p.due > statement_timestamp()) as is_paused,
       null::timestamptz as receipt_at, null::bigint as receipt_code, null::text as receipt_status
from pending_notifications p;

create or replace view notifications_final as
select h.id, h.appid, h.openid, h.template_id, h.kind, h.page, h.data, h.lane, h.business_ref, h.dedup_key, h.send_at,
       h.expire_at, h.attempts, h.attempts_max, h.errcode, h.errmsg, h.msgid,
       h.in_doubt_since, h.in_doubt_since is not null and h.status = 'sent' and h.settled_by = 'reply' as may_be_doubled,
       h.credit, h.duplicate_of, h.worker,
       h.settled_by, h.on_doubt, h.producer, h.last_attempt_at, h.created_at, h.finished_at,
       h.held, h.status, h.receipt_at, h.receipt_code, h.receipt_status
from notification_history h;

create or replace view notifications as
select n.id, n.appid, n.status, n.reason, n.next_at, n.openid, n.template_id, n.kind, n.page, n.data, n.lane,
       n.business_ref, n.dedup_key, n.send_at, n.expire_at, n.attempts, n.attempts_max, n.errcode, n.errmsg, n.msgid,
       n.in_doubt_since, n.may_be_doubled, n.credit, n.duplicate_of, n.worker, n.settled_by, n.on_doubt, n.producer,
       n.last_attempt_at, n.created_at, n.finished_at, n.receipt_at, n.receipt_code, n.receipt_status
from (
    select 'sending'::text as status, 'being sent'::text as reason, f.expires_at as next_at,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, f.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_in_flight f join notifications_pending r on r.id = f.id

    union all
    select 'held', 'a held credit, sent only when armed', nullif(r.due, 'infinity'),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.held and not r.is_sending

    union all
    select 'in_doubt',
           case r.on_doubt when 'hold' then 'a send may have arrived; waits for evidence or an operator'
                           else 'a send may have arrived; sent again when no evidence comes' end,
           nullif(r.due, 'infinity'),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.in_doubt_since is not null and not r.held and not r.is_sending

    union all
    select 'paused', wxnotify_pause_in_words(r.appid, r.template_id),
           wxnotify_pause_ends_at(r.appid, r.template_id, r.due, r.expire_at),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    select 'retrying', coalesce(wxnotify_errcode_in_words(r.errcode, r.errmsg, false), 'waits for its next attempt'), r.due,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.waiting_for = 'retry' and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    select 'scheduled', 'not before send_at', r.due,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.waiting_for is null and r.due > statement_timestamp()
      and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    select 'due',
           case when r.waiting_for = 'user' then 'an earlier message to this user is being sent'
                when r.waiting_for = 'pair' then 'an earlier message to this user from this template is in doubt'
                when r.waiting_for = 'duplicate' then coalesce(
                    'waits for notification '
                    || (select k.id from notification_keys k where k.appid = r.appid and k.dedup_key = r.dedup_key)
                    || ' with the same dedup_key', 'its dedup_key is free again: takes its turn')
                when r.expire_at <= statement_timestamp() then 'expire_at has passed: about to end expired'
                else 'waits for a worker' end,
           r.due,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.waiting_for is distinct from 'retry' and (r.waiting_for is not null or r.due <= statement_timestamp())
      and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    select 'sent', case when r.receipt_code <> 0 then 'accepted by WeChat, whose sent event then reported a failure: ' || coalesce(r.receipt_status, r.receipt_code::text)
                 when r.may_be_doubled then 'accepted by WeChat; an earlier send was in doubt, so it may have arrived twice'
                 when r.settled_by = 'event' then 'WeChat''s sent event ended a doubt'
                 when r.settled_by = 'operator' then 'an operator confirmed that it was sent'
                 else 'accepted by WeChat' end, null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'sent'

    union all
    select 'presumed_sent', '43101 after a doubt on the last credit: the doubtful send had spent it', null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'presumed_sent'

    union all
    select 'dead', coalesce(wxnotify_errcode_in_words(r.errcode, r.errmsg, false), 'attempts used up'), null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'dead'

    union all
    select 'expired', 'not sent before expire_at', null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'expired'

    union all
    select 'cancelled', case r.settled_by when 'operator' then 'cancelled by an operator' else 'cancelled by its producer' end, null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'cancelled'

    union all
    select 'duplicate', 'notification ' || r.duplicate_of || ' with the same dedup_key was sent instead', null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'duplicate'

    union all
    select 'unresolved', 'a send may have arrived; no evidence ever came', null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'unresolved'
) n;

do $$
declare
    v_view text;
begin
    foreach v_view in array array['notifications', 'notifications_pending', 'notifications_final'] loop
        execute format('comment on column %I.receipt_at is %L', v_view, 'When WeChat''s sent event said what became of the message; null: it did not (yet).');
        execute format('comment on column %I.receipt_code is %L', v_view, 'Its ErrorCode: 0 is delivered.');
        execute format('comment on column %I.receipt_status is %L', v_view, 'Its ErrorStatus: success, or what went wrong.');
    end loop;
end $$;

create or replace view notification_doubts as
select p.id, p.appid, p.openid, p.template_id, p.business_ref, p.in_doubt_since, statement_timestamp() - p.in_doubt_since as age,
       p.on_doubt, p.attempts, p.attempts_max, nullif(p.due, 'infinity') as next_at,
       p.id in (select f.id from notifications_in_flight f) as is_sending,
       case when p.on_doubt = 'hold' then 'waits for evidence or an operator, then ends unresolved'
            when p.attempts >= p.attempts_max then 'waits for evidence, then ends unresolved: attempts used up'
            else 'waits for evidence, then is sent again' end as what_next,
       (select count(*) from wechat_events e where e.appid = p.appid and e.openid = p.openid and e.template_id = p.template_id
          and e.msgid is not null and e.occurred_at >= p.in_doubt_since - interval '5 seconds') as events_since
from pending_notifications p
where p.in_doubt_since is not null;

create view notification_unconfirmed as
select h.id, h.appid, h.openid, h.template_id, h.business_ref, h.msgid, h.finished_at, statement_timestamp() - h.finished_at as age
from notification_history h
join wechat_apps a on a.appid = h.appid and h.finished_at >= a.first_receipt_at
where h.status = 'sent' and h.msgid is not null and h.receipt_at is null and h.finished_at < statement_timestamp() - interval '1 hour';
comment on view notification_unconfirmed is 'Accepted by WeChat more than an hour ago and never confirmed by a sent event, of apps whose events do arrive. Bound finished_at: without it all of the history is read.';
comment on column notification_unconfirmed.id is 'The notification.';
comment on column notification_unconfirmed.appid is 'The mini-program.';
comment on column notification_unconfirmed.openid is 'The receiver.';
comment on column notification_unconfirmed.template_id is 'The template.';
comment on column notification_unconfirmed.business_ref is 'The business object.';
comment on column notification_unconfirmed.msgid is 'WeChat''s msgid.';
comment on column notification_unconfirmed.finished_at is 'When WeChat''s acceptance was recorded.';
comment on column notification_unconfirmed.age is 'Time since then.';

-- The story of a row gains its receipt. STABLE like the function it asks, so that both read one snapshot.
alter function explain_notification(bigint) rename to wxnotify_explain_without_receipt;
comment on function wxnotify_explain_without_receipt is 'Part of explain_notification: all but the receipt.';
create function explain_notification(
    p_id bigint,
    out id bigint, out status text, out sentence text, out sentence_zh text, out what_next text, out what_next_zh text,
    out next_at timestamptz, out timeline jsonb
) language sql stable set search_path from current set jit = off as $$
    select e.id, e.status,
        e.sentence || case when r.receipt_at is null then ''
            when r.code = 0 then format(' WeChat''s sent event of %s confirmed it.', r.at)
            else format(' WeChat''s sent event of %s reported a failure: %s.', r.at, r.status) end,
        e.sentence_zh || case when r.receipt_at is null then ''
            when r.code = 0 then format('微信 %s 的回执已确认送达。', r.at)
            else format('微信 %s 的回执报告失败：%s。', r.at, r.status) end,
        case when r.code <> 0 then 'It is not sent again by itself: WeChat accepted it, so the credit is most likely spent.' else e.what_next end,
        case when r.code <> 0 then '不会自动重发：微信已接受该消息，订阅次数很可能已消耗。' else e.what_next_zh end,
        e.next_at,
        case when r.receipt_at is null then e.timeline else (
            -- WeChat's whole seconds may lie before our moment of settling; the receipt still comes after it.
            select jsonb_agg(x.what order by x.at, x.n)
            from (select t.what, (t.what ->> 'at')::timestamptz as at, t.n from jsonb_array_elements(e.timeline) with ordinality t (what, n)
                  union all
                  select jsonb_build_object('event', 'receipt', 'at', r.receipt_at, 'code', r.code, 'status', r.status),
                         greatest(r.receipt_at, r.finished_at), 1000) x) end
    from wxnotify_explain_without_receipt(p_id) e
    left join lateral (
        select h.receipt_at, h.finished_at, h.receipt_code as code, coalesce(h.receipt_status, h.receipt_code::text, 'unknown') as status,
               to_char(h.receipt_at, 'YYYY-MM-DD HH24:MI:SSOF') as at
        from notification_history h where h.id = p_id and h.receipt_at is not null limit 1) r on true
$$;
comment on function explain_notification is 'One row that tells what happened to a notification, why, what happens next and when; in English and Chinese, with a timeline. An unknown id gets an answer too.';

revoke execute on function wxnotify_ingest_event, wxnotify_apply_events, explain_notification from public;
