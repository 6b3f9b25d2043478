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
-- from it follows after the commit: wxnotify_weigh and wxnotify_apply_events, which workers call every second. SECURITY DEFINER:
-- who hands on events needs EXECUTE on it and no right on the table.
create function wxnotify_ingest_event(p_appid text, p_payload jsonb) returns integer
language plpgsql volatile security definer set search_path from current as $$
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

-- The story of a row again, with its receipt, and with the events that are evidence for its doubt.
create or replace function explain_notification(
    p_id bigint,
    out id bigint, out status text, out sentence text, out sentence_zh text, out what_next text, out what_next_zh text,
    out next_at timestamptz, out timeline jsonb
) language plpgsql stable set search_path from current set jit = off as $$
declare
    n            notifications%rowtype;
    v_doing      text;   -- the errcode or failure of the last attempt in words
    v_doing_zh   text;
    v_next       text;   -- next_at as people write it
    v_app        wechat_apps%rowtype;
    v_template   wechat_templates%rowtype;
    v_new_id     bigint;
    v_old_id     bigint;
    v_receipt    text;   -- what a sent event that is no success says
    v_form       constant text := 'YYYY-MM-DD HH24:MI:SSOF';
begin
    select * into n from notifications v where v.id = p_id;
    id := p_id;
    if n.id is null then
        status := 'not found';
        sentence := format('No notification has the id %s: it was never inserted, its transaction was rolled back, or retention has dropped it.', coalesce(p_id::text, 'null'));
        sentence_zh := format('没有编号为 %s 的通知：从未插入、所在事务已回滚，或已超过保留期被清除。', coalesce(p_id::text, 'null'));
        what_next := 'Look for it by its business object: select id, status, reason from notifications where business_ref = ''…''.';
        what_next_zh := '按业务对象查找：select id, status, reason from notifications where business_ref = ''…''。';
        timeline := '[]';
        return;
    end if;

    status := n.status;
    next_at := n.next_at;
    v_next := to_char(n.next_at, v_form);
    v_doing := wxnotify_errcode_in_words(n.errcode, n.errmsg, false);
    v_doing_zh := wxnotify_errcode_in_words(n.errcode, n.errmsg, true);
    select r.new_id into v_new_id from notification_redrives r where r.redriven_id = p_id;
    select r.redriven_id into v_old_id from notification_redrives r where r.new_id = p_id;
    select * into v_app from wechat_apps a where a.appid = n.appid;
    select * into v_template from wechat_templates t where t.appid = n.appid and t.template_id = n.template_id;

    case n.status
    when 'held' then
        sentence := 'A held credit: recorded, and sent only when it is armed.';
        sentence_zh := '预存的订阅次数：已登记，激活后才会发送。';
        what_next := 'Arm it with arm(appid, openid, template_id, data), or set held = false.'
                     || coalesce(' Unused, it ends expired at ' || v_next || '.', '');
        what_next_zh := '用 arm(appid, openid, template_id, data) 激活，或将 held 置为 false。' || coalesce('未使用则于 ' || v_next || ' 过期。', '');
    when 'scheduled' then
        sentence := format('Scheduled: not to be sent before %s.', to_char(n.send_at, v_form));
        sentence_zh := format('已排期：%s 之前不发送。', to_char(n.send_at, v_form));
        what_next := case when n.next_at = n.expire_at then format('It ends expired at %s, before its send_at.', v_next)
                          else format('A worker sends it at %s.', v_next) end;
        what_next_zh := case when n.next_at = n.expire_at then format('expire_at 早于 send_at，将于 %s 过期。', v_next)
                             else format('到 %s 由 worker 发送。', v_next) end;
    when 'due' then
        sentence := format('Due since %s: %s.', v_next, n.reason);
        sentence_zh := format('自 %s 起待发送：%s。', v_next,
            case when n.reason like '%in doubt' then '同一用户同一模板的上一条消息结果未知'
                 when n.reason like 'an earlier%' then '同一用户的上一条消息正在发送'
                 when n.reason like 'waits for notification%' then '等待同一 dedup_key 的另一条通知'
                 when n.reason like 'expire_at%' then '已过 expire_at，即将过期'
                 else '等待 worker 领取' end);
        if n.next_at > statement_timestamp() then
            sentence := format('It waits: %s.', n.reason);
        end if;
        if not exists (select 1 from notification_workers_live w where n.appid = any (w.appids) or w.appids = '{}') then
            what_next := 'No live worker serves this app: start one with `wxnotify run` and the app''s secret in WXNOTIFY_APPSECRET_' || n.appid || '.';
            what_next_zh := '没有存活的 worker 服务该小程序：请配置 WXNOTIFY_APPSECRET_' || n.appid || ' 并运行 `wxnotify run`。';
        elsif v_app.probing then
            what_next := 'Its app is being probed with one row after a pause; when that one succeeds the others follow.';
            what_next_zh := '该小程序暂停后正在用一条消息试探，成功后其余消息继续发送。';
        else
            what_next := 'A worker takes it when its turn comes' || case when n.next_at > statement_timestamp() then ', at ' || v_next || ' or sooner.' else '.' end;
            what_next_zh := '轮到时由 worker 发送' || case when n.next_at > statement_timestamp() then '，不晚于 ' || v_next || '。' else '。' end;
        end if;
    when 'sending' then
        sentence := format('Being sent by worker %s: attempt %s.', n.worker, n.attempts + 1);
        sentence_zh := format('worker %s 正在发送：第 %s 次尝试。', n.worker, n.attempts + 1);
        what_next := format('It is settled as soon as the reply comes. Without one it is in doubt after %s.', v_next);
        what_next_zh := format('收到回复后立即记录结果；若无回复，%s 之后结果记为未知（in_doubt）。', v_next);
    when 'retrying' then
        sentence := format('Attempt %s of %s failed: %s.', n.attempts, n.attempts_max, coalesce(v_doing, 'no details recorded'));
        sentence_zh := format('第 %s 次尝试（最多 %s 次）失败：%s。', n.attempts, n.attempts_max, coalesce(v_doing_zh, '无详细记录'));
        what_next := case when n.next_at = n.expire_at then format('It ends expired at %s, before another attempt.', v_next)
                          else format('Attempt %s follows at %s.', n.attempts + 1, v_next) end;
        what_next_zh := case when n.next_at = n.expire_at then format('下次尝试之前将于 %s 过期。', v_next)
                             else format('%s 进行第 %s 次尝试。', v_next, n.attempts + 1) end;
    when 'in_doubt' then
        sentence := format('In doubt: a send begun at %s may have reached the user, and its reply was lost.', to_char(n.in_doubt_since, v_form));
        sentence_zh := format('结果未知：%s 开始的发送可能已送达用户，但回复丢失。', to_char(n.in_doubt_since, v_form));
        if n.on_doubt = 'hold' then
            what_next := 'It is not sent again by itself. If you know better: confirm_sent(id), confirm_not_sent(id) or retry_anyway(id).'
                         || coalesce(' Else it ends unresolved at ' || v_next || '.', '');
            what_next_zh := '不会自动重发。如已知结果：confirm_sent(id)、confirm_not_sent(id) 或 retry_anyway(id)。'
                            || coalesce('否则于 ' || v_next || ' 以 unresolved 结束。', '');
        elsif n.attempts >= n.attempts_max or n.next_at = n.expire_at then
            what_next := format('Evidence is awaited until %s; then it ends unresolved: no attempt or no time is left.', v_next);
            what_next_zh := format('等待证据至 %s；尝试次数或时间已用尽，届时以 unresolved 结束。', v_next);
        else
            what_next := format('Evidence is awaited until %s; without any it is sent again, and the user may receive it twice.', v_next);
            what_next_zh := format('等待证据至 %s；若无证据则重发，用户可能收到两次。', v_next);
        end if;
    when 'paused' then
        sentence := format('Paused: %s.', n.reason);
        sentence_zh := case when v_app.appid is null then format('已暂停：小程序 %s 未登记。', n.appid)
                            when v_app.paused_until > statement_timestamp() then '已暂停：小程序暂停发送（' || coalesce(v_app.pause_reason, '未说明原因') || '）。'
                            when v_template.paused_until > statement_timestamp() then '已暂停：模板暂停发送（' || coalesce(v_template.pause_reason, '未说明原因') || '）。'
                            else '曾被暂停，等待轮到。' end;
        if v_app.appid is null then
            what_next := format('Register the app: `wxnotify app add %s`.', n.appid);
            what_next_zh := format('登记小程序：`wxnotify app add %s`。', n.appid);
        elsif v_app.paused_until = 'infinity' then
            what_next := format('It waits for an operator: mend the cause, then `wxnotify app resume %s`.', n.appid);
            what_next_zh := format('等待运维处理：排除原因后执行 `wxnotify app resume %s`。', n.appid);
        elsif v_template.paused_until = 'infinity' then
            what_next := format('It waits for an operator: mend the cause, then `wxnotify template resume %s %s`.', n.appid, n.template_id);
            what_next_zh := format('等待运维处理：排除原因后执行 `wxnotify template resume %s %s`。', n.appid, n.template_id);
        else
            what_next := format('It goes on by itself at %s.', v_next);
            what_next_zh := format('%s 自动恢复。', v_next);
        end if;
        if v_next is not null and n.next_at = n.expire_at then
            what_next := what_next || format(' Still paused at %s, it ends expired.', v_next);
            what_next_zh := what_next_zh || format('若 %s 仍未恢复则过期。', v_next);
        end if;
    when 'sent' then
        sentence := format('Sent at %s%s: %s.', to_char(n.finished_at, v_form), coalesce(' with msgid ' || n.msgid, ''), n.reason);
        sentence_zh := format('已于 %s 发送%s%s。', to_char(n.finished_at, v_form), coalesce('，msgid ' || n.msgid, ''),
            case when n.may_be_doubled then '；此前一次发送结果未知，用户可能收到两次'
                 when n.settled_by = 'event' then '，由微信的送达事件确认'
                 when n.settled_by = 'operator' then '，由运维人员确认' else '，微信已接受' end);
        if n.receipt_code = 0 then
            sentence := sentence || format(' WeChat''s sent event of %s confirmed it.', to_char(n.receipt_at, v_form));
            sentence_zh := sentence_zh || format('微信 %s 的回执确认已送达。', to_char(n.receipt_at, v_form));
        elsif n.receipt_at is not null then
            v_receipt := coalesce(n.receipt_status, n.receipt_code::text, 'unknown');
            sentence := sentence || format(' WeChat''s sent event of %s reported a failure: %s.', to_char(n.receipt_at, v_form), v_receipt);
            sentence_zh := sentence_zh || format('微信 %s 的回执报告失败：%s。', to_char(n.receipt_at, v_form), v_receipt);
            what_next := 'It is not sent again by itself: WeChat accepted it, so the credit is most likely spent.';
            what_next_zh := '不会自动重发：微信已接受该消息，订阅次数很可能已消耗。';
        end if;
    when 'presumed_sent' then
        sentence := format('Presumed sent: the retry of a send in doubt met 43101 at %s, so the doubtful send had spent the credit.', to_char(n.finished_at, v_form));
        sentence_zh := format('推定已发送：结果未知的发送在重试时于 %s 返回 43101，说明前一次已消耗该次数。', to_char(n.finished_at, v_form));
    when 'dead' then
        sentence := format('Dead-lettered at %s after %s attempt(s): %s.', to_char(n.finished_at, v_form), n.attempts, coalesce(v_doing, 'attempts used up'));
        sentence_zh := format('已于 %s 进入死信，共尝试 %s 次：%s。', to_char(n.finished_at, v_form), n.attempts, coalesce(v_doing_zh, '尝试次数用尽'));
        if v_new_id is null then
            what_next := case n.credit
                when 'gone' then 'The user''s credit is gone: collect a new one in the mini-program; a redrive would meet 43101.'
                when 'kept' then 'WeChat most likely still holds the credit: mend the cause, then insert a corrected row or `wxnotify redrive --id ' || n.id || '`.'
                else 'Whether the credit still exists is unknown: mend the cause, then try `wxnotify redrive --id ' || n.id || '`.' end;
            what_next_zh := case n.credit
                when 'gone' then '用户的订阅次数已不存在：请在小程序内重新获取授权；直接重投会返回 43101。'
                when 'kept' then '微信很可能仍保留该次数：排除原因后插入修正的行，或执行 `wxnotify redrive --id ' || n.id || '`。'
                else '订阅次数是否仍在未知：排除原因后可执行 `wxnotify redrive --id ' || n.id || '`。' end;
        end if;
    when 'expired' then
        sentence := format('Expired: not sent before %s. The credit was not spent.', to_char(n.expire_at, v_form));
        sentence_zh := format('已过期：%s 之前未能发送，订阅次数未消耗。', to_char(n.expire_at, v_form));
        if v_new_id is null then
            what_next := 'If it still matters: `wxnotify redrive --id ' || n.id || '` sends it without the old expire_at.';
            what_next_zh := '如仍需发送：`wxnotify redrive --id ' || n.id || '`（不再沿用旧的 expire_at）。';
        end if;
    when 'cancelled' then
        sentence := format('Cancelled at %s by %s.', to_char(n.finished_at, v_form), case n.settled_by when 'operator' then 'an operator' else 'its producer' end);
        sentence_zh := format('已于 %s 由%s取消。', to_char(n.finished_at, v_form), case n.settled_by when 'operator' then '运维人员' else '业务方' end);
    when 'duplicate' then
        sentence := format('Not sent: notification %s with the same dedup_key was sent instead.', n.duplicate_of);
        sentence_zh := format('未发送：同一 dedup_key 的通知 %s 已发送。', n.duplicate_of);
    when 'unresolved' then
        sentence := format('Unresolved at %s: a send begun at %s may have reached the user; no evidence ever came.', to_char(n.finished_at, v_form), to_char(n.in_doubt_since, v_form));
        sentence_zh := format('于 %s 以未决结束：%s 开始的发送可能已送达，始终没有证据。', to_char(n.finished_at, v_form), to_char(n.in_doubt_since, v_form));
        if v_new_id is null then
            what_next := 'Ask the user or the business system; `wxnotify redrive --id ' || n.id || '` sends it once more, perhaps a second time.';
            what_next_zh := '请向用户或业务系统核实；`wxnotify redrive --id ' || n.id || '` 会再发一次，用户可能收到两次。';
        end if;
    end case;
    if v_new_id is not null then
        what_next := format('It was redriven as notification %s: explain that one.', v_new_id);
        what_next_zh := format('已重投为通知 %s，请查看该条。', v_new_id);
    end if;
    what_next := coalesce(what_next, 'Nothing: this is final.');
    what_next_zh := coalesce(what_next_zh, '无：已是最终状态。');

    select coalesce(jsonb_agg(jsonb_strip_nulls(e.what) || jsonb_build_object('at', e.at) order by e.at, e.rank), '[]') into timeline
    from (
        select 0 as rank, n.created_at as at, jsonb_build_object('event', 'created', 'by', n.producer, 'redrive_of', v_old_id) as what
        union all
        select 1, n.send_at, jsonb_build_object('event', 'scheduled') where n.send_at > n.created_at
        union all
        select 2, l.leased_at, jsonb_build_object('event', 'leased', 'worker', l.worker, 'lease_id', l.lease_id)
        from notification_leases l where l.appid = n.appid and p_id = any (l.ids)
        union all
        select 3, l.started_at, jsonb_build_object('event', 'started', 'worker', l.worker, 'lease_id', l.lease_id)
        from notification_leases l where l.appid = n.appid and p_id = any (l.ids) and l.started_at is not null
        union all
        select 4, a.finished_at, jsonb_build_object('event', 'attempt', 'attempt', a.attempt, 'result', a.result, 'errcode', a.errcode,
            'errmsg', a.errmsg, 'meaning', wxnotify_errcode_in_words(a.errcode, null, false), 'meaning_zh', wxnotify_errcode_in_words(a.errcode, null, true),
            'reason', a.reason, 'http_status', a.http_status, 'rid', a.rid, 'response_ms', a.response_ms, 'worker', a.worker, 'started_at', a.started_at)
        from notification_attempts a where a.notification_id = p_id
        union all
        select 5, n.in_doubt_since, jsonb_build_object('event', 'in doubt') where n.in_doubt_since is not null
        union all
        select 6, w.occurred_at, jsonb_build_object('event', w.event, 'msgid', w.msgid::text, 'received_at', w.received_at)
        from wechat_events w
        where n.in_doubt_since is not null and w.appid = n.appid and w.openid = n.openid and w.template_id = n.template_id
          and w.msgid is not null and w.occurred_at >= n.in_doubt_since - interval '5 seconds'
        union all
        -- msgid as text: it exceeds 2^53, which JSON readers round
        select 8, n.finished_at, jsonb_build_object('event', 'ended', 'status', n.status, 'settled_by', n.settled_by, 'worker', n.worker,
            'msgid', n.msgid::text, 'duplicate_of', n.duplicate_of)
        where n.finished_at is not null
        union all
        -- WeChat's whole seconds may lie before our moment of settling; the receipt still comes after it
        select 9, greatest(n.receipt_at, n.finished_at), jsonb_build_object('event', 'receipt', 'dated', n.receipt_at, 'code', n.receipt_code, 'status', n.receipt_status)
        where n.receipt_at is not null
        union all
        select 10, r.at, jsonb_build_object('event', 'redriven', 'as', r.new_id, 'by', r.actor) from notification_redrives r where r.redriven_id = p_id
    ) e;
end $$;

revoke execute on function wxnotify_ingest_event, wxnotify_apply_events from public;
