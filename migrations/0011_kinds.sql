-- What login codes, device messages and service cards need beyond a one-time message: their checks at INSERT, the exchange
-- of a login code for the openid, and what asking for the state of a service card settles.
--
-- A row with a login code has no receiver yet, so nothing of it can be sent, and its due is no earlier than its expire_at.
-- A code works once and lives for 5 minutes: a worker claims it with an UPDATE that is on disk before the call leaves, and
-- the code is gone from the row with the statement that records what the call brought. The history never has it.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Only rows that wait for their exchange are in it: usually it is empty.
create index login on pending_notifications (appid, login_at) where login_code is not null;

-- What wxnotify_arrive has no business with, since nearly every row is a plain message. It uses nothing but pg_catalog.
create function wxnotify_arrive_kind() returns trigger language plpgsql as $$
declare
    v_fault text;
    v_check jsonb := new.extra -> 'check_json';
begin
    if tg_op = 'INSERT' and (new.login_code is not null or new.login_at is not null or new.login_until is not null
            or new.login_claims is distinct from 0 or new.login_unclear is distinct from 0) then
        new.login_at := case when new.login_code is not null then clock_timestamp() end;
        -- Counted from here: how old the code is already, only WeChat knows.
        new.login_until := new.login_at + interval '5 minutes';
        new.login_claims := 0;
        new.login_unclear := 0;
        new.waiting_for := case when new.login_code is not null then 'login' end;
    end if;
    v_fault := case
        when new.login_code is not null and new.openid is not null then 'login_code: give either the openid or a login_code, not both'
        when length(new.login_code) not between 1 and 256 or new.login_code ~ '[^\u0021-\u007e]' then 'login_code: must be 1 to 256 characters as wx.login gave them, without spaces'
        when new.kind = 'device' then case
            when new.extra is null or jsonb_typeof(new.extra) <> 'object' then 'extra: a device message needs {"sn": "…", "modelId": "…"}'
            when coalesce(jsonb_typeof(new.extra -> 'sn'), '') <> 'string' or new.extra ->> 'sn' !~ '^[0-9A-Za-z_-]+$'
                then 'extra: sn: the device''s serial number, of letters, digits, _ and - only, is required'
            when length(new.extra ->> 'sn') > 128 then format('extra: sn: %s bytes, at most 128 are allowed', length(new.extra ->> 'sn'))
            when coalesce(jsonb_typeof(new.extra -> 'modelId'), '') <> 'string' or length(new.extra ->> 'modelId') not between 1 and 128
                then 'extra: modelId: the device''s model id, of 1 to 128 characters, is required'
            end
        when new.kind = 'service_card' then case
            when new.template_id !~ '^[1-9][0-9]{0,8}$' then 'template_id: of a service card must be its notify_type, a number such as 2001'
            when new.extra is null or jsonb_typeof(new.extra) <> 'object' then 'extra: a service card needs {"notify_code": "…"}'
            when coalesce(jsonb_typeof(new.extra -> 'notify_code'), '') <> 'string' or new.extra ->> 'notify_code' !~ '^[\u0021-\u007e]{1,128}$'
                then 'extra: notify_code: 1 to 128 characters without spaces are required, as text: the transaction id of WeChat Pay or the code of the button'
            when new.extra ? 'ext_json' then case
                when jsonb_typeof(new.extra -> 'ext_json') <> 'object' then 'extra: ext_json: must be a JSON object, not a string; wxnotify makes WeChat''s string of it'
                when new.extra ? 'check_json' then 'extra: check_json: belongs to a state, not to ext_json; insert them as two rows'
                when new.data <> '{}' then 'data: must be empty beside ext_json; insert state and ext_json as two rows'
                end
            when new.held and new.data = '{}' then null
            when coalesce(jsonb_typeof(new.data -> 'cur_status'), '') <> 'number' or new.data ->> 'cur_status' !~ '^[0-9]{1,9}$'
                then 'data: cur_status: the card''s state, a whole number, is required'
            when coalesce(jsonb_typeof(new.data -> 'wxa_path_query'), '') <> 'string' or new.data ->> 'wxa_path_query' = ''
                then 'data: wxa_path_query: the page that the card opens is required'
            when left(new.data ->> 'wxa_path_query', 1) = '/' then 'data: wxa_path_query: must not begin with a slash'
            when new.extra ? 'check_json' then case
                when jsonb_typeof(v_check) <> 'object' then 'extra: check_json: must be a JSON object, not a string; wxnotify makes WeChat''s string of it'
                when coalesce(jsonb_typeof(v_check -> 'pay_amount'), '') <> 'number' or v_check ->> 'pay_amount' !~ '^[0-9]{1,10}$'
                    then 'extra: check_json: pay_amount: the amount in fen, a whole number, is required'
                when coalesce(jsonb_typeof(v_check -> 'pay_time'), '') <> 'number' or v_check ->> 'pay_time' !~ '^[0-9]{1,10}$'
                    then 'extra: check_json: pay_time: the time of the payment in Unix seconds is required'
                when (v_check ->> 'pay_amount')::bigint > 4294967295 or (v_check ->> 'pay_time')::bigint > 4294967295
                    then 'extra: check_json: pay_amount and pay_time are at most 4294967295'
                end
            end
        end;
    if v_fault is not null then
        raise exception using errcode = 'check_violation', table = tg_table_name, column = split_part(v_fault, ':', 1),
            message = 'pending_notifications.' || v_fault, hint = 'Nothing was stored. Correct the column and insert the row again.';
    end if;
    return new;
end $$;

-- Fires after `arrive`, by its name.
create trigger arrive_kind before insert or update of kind, openid, login_code, template_id, data, extra, held on pending_notifications for each row
    when (new.kind in ('device', 'service_card') or num_nonnulls(new.login_code, new.login_at, new.login_until) > 0
          or new.login_claims is distinct from 0 or new.login_unclear is distinct from 0)
    execute function wxnotify_arrive_kind();

-- Claims up to p_rows login codes of these mini-programs for p_secs. The claim is durable before the call: whoever finds a
-- lapsed claim knows that the code may have been used. What cannot succeed any more is dead-lettered without a call, for
-- every mini-program: codes past their 5 minutes, and those that two calls without an answer may have used.
create function wxnotify_claim_logins(p_appids text[], p_rows int, p_secs float8)
returns table (id bigint, appid text, code text, claim smallint)
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v_now   timestamptz := clock_timestamp();
    v_appid text;
    v_ids   bigint[];
    v_words text[];
    v_left  int := p_rows;
begin
    perform wxnotify_need_read_committed();
    select p.appid into v_appid from pending_notifications p where p.login_code is not null order by p.appid, p.login_at limit 1;
    while v_appid is not null loop
        select array_agg(d.id), array_agg(d.words) into v_ids, v_words from (
            select p.id, case
                when p.login_unclear >= 2 then 'the login code was sent to WeChat twice and no answer came back: it is most likely used up'
                when p.login_unclear = 1 then 'the login code was sent to WeChat, the answer was lost, and its 5 minutes are over'
                else 'the login code was not exchanged within its 5 minutes' || coalesce(': ' || p.last_errmsg, '') end as words
            from pending_notifications p
            where p.appid = v_appid and p.login_code is not null and p.login_at <= v_now and (p.login_until <= v_now or p.login_unclear >= 2)
            limit 1000 for update skip locked) d;
        if v_ids is not null then
            -- The reason is one of these, not the errcode of an earlier try.
            update pending_notifications p set last_errcode = null where p.id = any (v_ids) and p.last_errcode is not null;
            perform wxnotify_finish(v_appid, v_ids, array_fill('dead'::text, array[cardinality(v_ids)]), 'policy', null, p_errmsgs => v_words,
                p_credits => array_fill('kept'::text, array[cardinality(v_ids)]));
        end if;
        if v_left > 0 and v_appid = any (p_appids)
           and exists (select from wechat_apps a where a.appid = v_appid and (a.paused_until is null or a.paused_until <= v_now)) then
            return query
                with picked as materialized (
                    select p.id from pending_notifications p
                    where p.appid = v_appid and p.login_code is not null and p.login_at <= v_now and p.login_until > v_now and p.login_unclear < 2
                      and (p.expire_at is null or p.expire_at > v_now)
                    order by p.login_at limit v_left for update skip locked)
                update pending_notifications p
                set login_at = clock_timestamp() + make_interval(secs => p_secs), login_claims = p.login_claims + 1, login_unclear = p.login_unclear + 1
                where p.id = any (array(select picked.id from picked))
                returning p.id, p.appid, p.login_code, p.login_claims;
            get diagnostics v_left = row_count;
            v_left := p_rows - v_left;
        end if;
        select p.appid into v_appid from pending_notifications p where p.login_code is not null and p.appid > v_appid order by p.appid, p.login_at limit 1;
    end loop;
end $$;

-- Records what exchanges brought: an openid, the end (p_dead), or another try after p_after_secs. An openid counts whoever
-- holds the claim by now: it is true. Everything else only under its own claim. p_unclear: the call may have used the
-- code. Returns the ids that somebody else holds at this moment: call again with them.
create function wxnotify_settle_logins(
    p_ids bigint[], p_claims smallint[], p_openids text[], p_dead boolean[], p_unclear boolean[], p_after_secs float8[], p_errcodes bigint[],
    p_errmsgs text[], p_credits text[], p_rids text[], p_worker text) returns bigint[]
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_row   record;
    v_kept  bigint[] := '{}';
    v_spent text;   -- in words, when an earlier exchange of ours used the code
begin
    perform wxnotify_need_read_committed();
    for v_n in 1..cardinality(p_ids) loop
        select p.appid, p.attempts, p.login_code, p.login_claims, p.login_unclear, p.last_errcode into v_row
        from pending_notifications p where p.id = p_ids[v_n] for update skip locked;
        if not found or v_row.login_code is null then
            if not found and (select p.login_code from pending_notifications p where p.id = p_ids[v_n]) is not null then
                v_kept := v_kept || p_ids[v_n];
            end if;
            continue;
        end if;
        if p_openids[v_n] is not null then
            begin
                update pending_notifications p
                set openid = p_openids[v_n], login_code = null, login_at = null, login_until = null, waiting_for = null,
                    due = wxnotify_next_due(p.held, p.send_at, p.expire_at), last_errcode = null, last_errmsg = null
                where p.id = p_ids[v_n];
                perform wxnotify_ring();
            exception when check_violation then
                -- The rules for a row grew stricter since it was inserted. The message names the rule, not the text.
                perform wxnotify_finish(v_row.appid, array[p_ids[v_n]], array['dead'], 'worker', p_worker, p_errmsgs => array[sqlerrm],
                    p_credits => array['kept']);
            end;
            continue;
        end if;
        continue when v_row.login_claims <> p_claims[v_n];
        insert into notification_attempts (notification_id, appid, attempt, result, errcode, errmsg, rid, reason, worker, finished_at)
        values (p_ids[v_n], v_row.appid, v_row.attempts, case when p_dead[v_n] then 'dead' else 'retry' end, p_errcodes[v_n], left(p_errmsgs[v_n], 500),
            p_rids[v_n], 'exchange of the login code', p_worker, v_now);
        if p_dead[v_n] then
            v_spent := case
                when p_errcodes[v_n] not in (40163, 40029) then null
                when v_row.login_unclear > 1 then 'the login code was used up by an exchange whose answer was lost'
                when v_row.last_errcode = -1 then 'the login code was used up by an exchange that WeChat answered with -1' end;
            update pending_notifications p set last_errcode = null where p.id = p_ids[v_n] and v_spent is not null;
            perform wxnotify_finish(v_row.appid, array[p_ids[v_n]], array['dead'], 'worker', p_worker,
                array[case when v_spent is null then p_errcodes[v_n] end], array[coalesce(v_spent, left(p_errmsgs[v_n], 500))],
                p_credits => array[p_credits[v_n]]);
        else
            update pending_notifications p
            set login_at = least(v_now + make_interval(secs => p_after_secs[v_n]), p.login_until),
                login_unclear = p.login_unclear - (not p_unclear[v_n])::int, last_errcode = p_errcodes[v_n], last_errmsg = left(p_errmsgs[v_n], 500)
            where p.id = p_ids[v_n];
        end if;
    end loop;
    return v_kept;
end $$;

-- What asking for the state of service cards brought, for rows of a lease whose row the caller has locked. found: the card is
-- in the row's state or a later one, so the row was sent, by an earlier send or by somebody else. not_found: it is not, so a
-- send in doubt did not arrive; the doubt is over and the row is due again. An errcode beside it is that of a send of this
-- very attempt, which then counts. Returns how many rows were settled.
create function wxnotify_settle_read_backs(
    p_lease notification_leases, p_ids bigint[], p_verdicts text[], p_errcodes bigint[], p_errmsgs text[], p_rids text[], p_http_statuses smallint[],
    p_reasons text[], p_response_ms int[]) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_mergejoin = off
    set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_now       timestamptz := clock_timestamp();
    v_at        int[];
    v_ids       bigint[];
    v_rows      tid[];
    v_found     bigint[];
    v_errcodes  bigint[];
    v_errmsgs   text[];
    v_openids   text[];
    v_templates text[];
    v_settled   int := 0;
begin
    select array_agg(u.n), array_agg(l.id), array_agg(l.tid) into v_at, v_ids, v_rows
    from unnest(p_ids) with ordinality u (id, n) cross join lateral (
        select p.id, p.ctid as tid from pending_notifications p where p.id = u.id and p.last_lease is distinct from p_lease.lease_id
        limit 1 for update skip locked) l
    where u.id = any (p_lease.ids) and p_verdicts[u.n] in ('found', 'not_found');
    if v_ids is null then
        return 0;
    end if;
    insert into notification_attempts (notification_id, appid, attempt, result, errcode, errmsg, rid, http_status, reason, started_at, response_ms,
        worker, lease_id, finished_at)
    select u.id, p_lease.appid, p.attempts + (p_errcodes[u.n] is not null)::int, 'read_back', p_errcodes[u.n], left(p_errmsgs[u.n], 500), p_rids[u.n],
        p_http_statuses[u.n], left(p_reasons[u.n], 500), p_lease.started_at, p_response_ms[u.n], p_lease.worker, p_lease.lease_id, v_now
    from unnest(v_at, v_ids, v_rows) u (n, id, tid) join pending_notifications p on p.ctid = u.tid;
    for v_counted in 0..1 loop
        select array_agg(u.id), array_agg(p_errcodes[u.n]), array_agg(left(p_errmsgs[u.n], 500)) into v_found, v_errcodes, v_errmsgs
        from unnest(v_at, v_ids) u (n, id)
        where p_verdicts[u.n] = 'found' and (p_errcodes[u.n] is not null)::int = v_counted;
        if v_found is not null then
            v_settled := v_settled + wxnotify_finish(p_lease.appid, v_found, array_fill('sent'::text, array[cardinality(v_found)]), 'read_back',
                p_lease.worker, v_errcodes, v_errmsgs, p_attempts => v_counted::smallint);
        end if;
    end loop;
    with refuted as (
        update pending_notifications p
        set last_lease = p_lease.lease_id, in_doubt_since = null, waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at),
            last_errcode = null, last_errmsg = left(p_reasons[u.n], 500), last_attempt_at = v_now
        from unnest(v_at, v_ids) u (n, id)
        cross join lateral (select r.ctid as tid from pending_notifications r where r.id = u.id limit 1) l
        where p.ctid = l.tid and p_verdicts[u.n] = 'not_found'
        returning p.openid, p.template_id)
    select array_agg(r.openid), array_agg(r.template_id) into v_openids, v_templates from refuted r;
    if v_openids is not null then
        v_settled := v_settled + cardinality(v_openids);
        perform wxnotify_wake_pairs(p_lease.appid, v_openids, v_templates);
        perform wxnotify_ring();
    end if;
    return v_settled;
end $$;

-- Records failure events of service cards among these events as the receipt of the last row that was sent for the code in
-- that state. WeChat writes the code with a prefix (p1.), hence the comparison of its end. Returns the events that found a row.
create function wxnotify_apply_card_failures(p_ids bigint[]) returns bigint[]
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
    v_found bigint[];
begin
    with matched as materialized (
        select e.id, e.occurred_at, e.error_code, e.error_status,
               (select h.id from notification_history h
                where h.appid = e.appid and h.openid = e.openid and h.template_id = e.template_id and h.kind = 'service_card' and h.status = 'sent'
                  and h.finished_at >= e.occurred_at - interval '3 days'
                  and right(e.payload ->> 'notify_code', length(h.extra ->> 'notify_code')) = h.extra ->> 'notify_code'
                  and h.data ->> 'cur_status' = e.payload ->> 'card_status'
                order by h.finished_at desc limit 1) as row_id
        from unnest(p_ids) u (id) join wechat_events e on e.id = u.id
        where e.event = 'notify_service_msg_send_result'),
    received as (
        update notification_history h
        set receipt_at = m.occurred_at, receipt_code = m.error_code, receipt_status = m.error_status
        from (select distinct on (row_id) * from matched where row_id is not null order by row_id, occurred_at desc, id) m
        where h.id = m.row_id and h.finished_at >= m.occurred_at - interval '3 days' and (h.receipt_at is null or h.receipt_at < m.occurred_at))
    select array_agg(m.id) into v_found from matched m where m.row_id is not null;
    return coalesce(v_found, '{}');
end $$;

revoke execute on function wxnotify_arrive_kind, wxnotify_claim_logins, wxnotify_settle_logins, wxnotify_settle_read_backs, wxnotify_apply_card_failures from public;
comment on function wxnotify_arrive_kind is 'Trigger: checks what only login codes, device messages and service cards have.';
comment on function wxnotify_claim_logins is 'Claims login codes to exchange, and dead-letters those that have expired.';
comment on function wxnotify_settle_logins is 'Records what exchanges of login codes brought.';
comment on function wxnotify_settle_read_backs is 'Part of settle: what asking for the state of service cards brought.';
comment on function wxnotify_apply_card_failures is 'Part of wxnotify_apply_events: failure events of service cards.';
