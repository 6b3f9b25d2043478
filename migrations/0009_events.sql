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
    add column answer text,
    add column notification_id bigint,
    add column held_id bigint,
    add constraint answer_is_known check (answer in ('accept', 'reject')),
    drop constraint wechat_events_appid_event_msgid_key;
-- A late reply is told apart by its msgid, an event of WeChat by its whole content: of one message it may say two things.
create unique index on wechat_events (appid, event, msgid) where dedup_hash is null;
create unique index on wechat_events (appid, dedup_hash);
create index on wechat_events (apply_at) where apply_at is not null and answer is null;
create index on wechat_events (apply_at) where apply_at is not null and answer is not null;
-- What a user said of a template, the latest word first or counted.
create index on wechat_events (appid, openid, template_id, occurred_at) where answer is not null;
-- Of one accept there is one row, and one row is of one accept.
create unique index on wechat_events (notification_id) where notification_id is not null;
create unique index on wechat_events (held_id) where held_id is not null;
-- For retention: receipts of our rows (0) are forgotten first, then other messages (1), then what users said (2).
create index on wechat_events ((case when msgid is null then 2 when applied_at is null then 1 else 0 end), received_at);
comment on column wechat_events.openid is 'The receiver; null for an event about no user.';
comment on column wechat_events.template_id is 'The template; null for an event about none.';
comment on column wechat_events.payload is 'The event as WeChat sent it, as JSON, its List narrowed to the entry this row is about; null for a late reply.';
comment on column wechat_events.dedup_hash is 'SHA-256 over what makes the event the same when WeChat repeats it; null for a late reply.';
comment on column wechat_events.error_code is 'ErrorCode of a sent event: 0 is delivered.';
comment on column wechat_events.error_status is 'ErrorStatus of a sent event: success, or what went wrong.';
comment on column wechat_events.apply_at is 'When its row is looked for (again); null: it is applied, given up, or not applied to rows.';
comment on column wechat_events.applied_at is 'When it was recorded as the receipt of its row; for what a user said, when it was first looked at; of a punishment, when a worker''s log told of it.';
comment on column wechat_events.answer is 'What the user said of the template: accept or reject; null for other events.';
comment on column wechat_events.notification_id is 'For an accept: the notification that is the same tap; null: no row claims it (yet).';
comment on column wechat_events.held_id is 'For an accept that no row claimed in time: the held row that was made of it.';

alter table wechat_apps add column first_receipt_at timestamptz;
comment on column wechat_apps.first_receipt_at is 'When a message was first confirmed by WeChat''s sent event; null: never, its callbacks do not reach us.';

-- Stores an event of WeChat, decoded but otherwise as received, one row for each entry of its List. Returns how many were new:
-- 0 when all were known; null when it is nothing that wxnotify keeps (a chat message, another kind of event). What follows
-- from it follows after the commit: wxnotify_weigh, wxnotify_apply_events and wxnotify_apply_answers, which workers call every second. SECURITY DEFINER:
-- who hands on events needs EXECUTE on it and no right on the table.
create function wxnotify_ingest_event(p_appid text, p_payload jsonb) returns integer
language plpgsql volatile security definer set search_path from current as $$
declare
    v_event   text := p_payload ->> 'Event';
    -- An event about a service card names its user apart from who sent it.
    v_openid  text := case p_payload ->> 'Event' when 'notify_service_msg_send_result' then coalesce(p_payload ->> 'openid', p_payload ->> 'FromUserName')
                           else coalesce(p_payload ->> 'FromUserName', p_payload ->> 'openid') end;
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
        -- The same again when WeChat repeats it.
        v_created := coalesce(substring(p_payload ->> 'punish_time' from '^[0-9]{9,10}$'), floor(extract(epoch from clock_timestamp()))::text);
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
               -- a pop-up's accept may name its form (acceptWithAudio, acceptWithAlert)
               case when v_event not in ('subscribe_msg_popup_event', 'subscribe_msg_change_event') or v_openid is null then null
                    when lower(x.entry ->> 'SubscribeStatusString') like 'accept%' then 'accept'
                    when lower(x.entry ->> 'SubscribeStatusString') = 'reject' then 'reject' end as answer,
               case when x.entry ->> 'MsgID' ~ '^[0-9]{1,18}$|^[1-8][0-9]{18}$|^9[01][0-9]{17}$' then (x.entry ->> 'MsgID')::bigint end as msgid,
               -- numbers and their text are the same
               (select jsonb_object_agg(f.key, f.value #>> '{}')
                from jsonb_each(case when v_list = '[{}]' then p_payload else x.entry end) f) as said
        from jsonb_array_elements(v_list) with ordinality x (entry, n))
    insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at, payload, dedup_hash, error_code, error_status, answer, apply_at)
    select p_appid, v_event, v_openid, case v_event when 'notify_service_msg_send_result' then left(p_payload ->> 'notify_type', 128) else entry ->> 'TemplateId' end, msgid, to_timestamp(v_created::float8),
           case when v_list = '[{}]' then p_payload
                else p_payload - 'List' - 'Encrypt' - coalesce(v_wrapper, '') || jsonb_build_object('List', entry) end,
           sha256(convert_to(jsonb_build_array(v_event, v_openid, v_created, said)::text, 'UTF8')),
           case when v_event = 'notify_service_msg_send_result' then
                     case when p_payload ->> 'fail_ret' ~ '^-?[0-9]{1,18}$' then (p_payload ->> 'fail_ret')::bigint end
                when entry ->> 'ErrorCode' ~ '^-?[0-9]{1,18}$' then (entry ->> 'ErrorCode')::bigint when entry ->> 'ErrorStatus' = 'success' then 0 end,
           left(case v_event when 'notify_service_msg_send_result' then p_payload ->> 'fail_msg' else entry ->> 'ErrorStatus' end, 500), answer,
           case when answer is not null or v_event = 'subscribe_msg_sent_event' and msgid is not null or v_event = 'notify_service_msg_send_result' then clock_timestamp() end
    from entries order by n
    on conflict do nothing;
    get diagnostics v_stored = row_count;
    return v_stored;
end $$;
comment on function wxnotify_ingest_event is 'Stores an event WeChat pushed, for callers with a callback URL of their own: (appid, the decrypted event as JSON). Returns how many entries were new; null: nothing that wxnotify keeps.';

-- Records sent events, and failures of service cards, as receipts of their rows, at most p_rows a call. One whose row is not final yet, or not ours, is looked at
-- again after as long as it has waited, and given up after eight days: by then a doubt has ended too. Returns how many were looked at.
create function wxnotify_apply_events(p_rows int default 500) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_ids   bigint[];
    v_found bigint[];
begin
    perform wxnotify_need_read_committed();
    v_ids := array(select e.id from wechat_events e where e.apply_at <= v_now and e.answer is null order by e.apply_at limit p_rows for update skip locked);
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
    v_found := v_found || wxnotify_apply_card_failures(v_ids);
    update wechat_events e
    set applied_at = case when e.id = any (v_found) then v_now end,
        apply_at = case when e.id <> all (v_found) and v_now - e.received_at < interval '8 days'
                        then v_now + greatest(v_now - e.received_at, interval '1 second') end
    where e.id = any (v_ids);
    return cardinality(v_ids);
end $$;
comment on function wxnotify_apply_events is 'Records WeChat''s sent events, and its failure events about service cards, as receipts of their notifications.';

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

revoke execute on function wxnotify_ingest_event, wxnotify_apply_events from public;

-- Punishments say of what WeChat thinks, not of users; what was punished may be a message's text and stays in the payload.
create index on wechat_events (id) where event = 'wxa_punish_event' and applied_at is null;
create view wechat_punishments as
select e.id, e.appid, p.punished_at, p.event_type,
       case p.event_type when '1' then 'warning' when '2' then 'functions banned' when '3' then 'delisted' when '4' then 'account banned'
                         when '5' then 'page banned' when '10' then 'page banned' else 'punishment of type ' || coalesce(p.event_type, '?') end as punishment,
       left(e.payload ->> 'illegal_reason', 500) as reason, left(e.payload ->> 'rule_name', 200) as rule_name,
       left(e.payload ->> 'banned_function_names', 500) as banned_functions, left(e.payload ->> 'banned_days', 20) as banned_days,
       left(e.payload ->> 'rule_url', 500) as rule_url, left(e.payload ->> 'adjust_guide_url', 500) as adjust_guide_url,
       left(e.payload ->> 'punish_id', 100) as punish_id, e.received_at, e.applied_at as announced_at
from wechat_events e
cross join lateral (
    select left(e.payload ->> 'event_type', 10) as event_type,
           case when e.payload ->> 'punish_time' ~ '^[0-9]{9,10}$' then to_timestamp((e.payload ->> 'punish_time')::float8) else e.occurred_at end as punished_at) p
where e.event = 'wxa_punish_event';
comment on view wechat_punishments is 'What WeChat punished a mini-program for, as its wxa_punish_event says; the whole event is in wechat_events.payload.';
comment on column wechat_punishments.id is 'The event''s id in wechat_events.';
comment on column wechat_punishments.appid is 'The mini-program.';
comment on column wechat_punishments.punished_at is 'When WeChat punished it.';
comment on column wechat_punishments.event_type is 'WeChat''s number for the kind of punishment.';
comment on column wechat_punishments.punishment is 'What that number means: warning, functions banned, delisted, account banned, page banned.';
comment on column wechat_punishments.reason is 'WeChat''s reason.';
comment on column wechat_punishments.rule_name is 'The rule that was broken.';
comment on column wechat_punishments.banned_functions is 'The functions that are banned, as WeChat names them.';
comment on column wechat_punishments.banned_days is 'For how many days.';
comment on column wechat_punishments.rule_url is 'Where the rule is written.';
comment on column wechat_punishments.adjust_guide_url is 'Where WeChat says what to change.';
comment on column wechat_punishments.punish_id is 'WeChat''s number for it, to appeal by.';
comment on column wechat_punishments.received_at is 'When the event came.';
comment on column wechat_punishments.announced_at is 'When a worker''s log told of it; null: not yet.';
