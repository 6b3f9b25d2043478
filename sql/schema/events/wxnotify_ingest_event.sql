-- Stores an event of WeChat, decoded but otherwise as received, one row for each entry of its List. Returns how many were new:
-- 0 when all were known; null when it is nothing that wxnotify keeps (a chat message, another kind of event). What follows
-- from it follows after the commit: wxnotify_weigh, wxnotify_apply_events and wxnotify_apply_answers, which workers call every second. SECURITY DEFINER:
-- who hands on events needs EXECUTE on it and no right on the table.
create or replace function wxnotify_ingest_event(p_appid text, p_payload jsonb) returns integer
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
            hint = 'wxnotify_ingest_event(''wx...'', ''{"Event": "subscribe_msg_sent_event", ...}'')';
    end if;
    if v_event is null or v_event not in ('subscribe_msg_sent_event', 'subscribe_msg_popup_event', 'subscribe_msg_change_event',
            'notify_service_msg_send_result', 'wxa_punish_event') then
        return null;
    end if;
    if p_appid !~ '^[A-Za-z0-9_-]+$' then
        raise exception 'appid of an event: letters, digits, _ and - alone are allowed' using errcode = 'invalid_parameter_value';
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
    -- A signed time of the far future would outlast every later word of the user, and in plaintext mode a captured signature is enough for it.
    if to_timestamp(v_created::float8) > clock_timestamp() + interval '10 minutes' then
        raise exception 'CreateTime of an event must not be later than 10 minutes from now' using errcode = 'invalid_parameter_value',
            hint = 'Check the clock of the database server; an event of WeChat is as old as its way here.';
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
           wxnotify_bound_payload(case when v_list = '[{}]' then p_payload
                else p_payload - 'List' - 'Encrypt' - coalesce(v_wrapper, '') || jsonb_build_object('List', entry) end),
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

grant execute on function wxnotify_ingest_event to wxnotify_operator, wxnotify_worker;
