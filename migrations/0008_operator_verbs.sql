-- What operators do, as SQL functions: cancel, reschedule, redrive, end doubts, pause and resume, register apps. The
-- command line calls the same ones.
--
-- Every verb takes at most 1,000 rows a call, locks them with SKIP LOCKED, looks in a later statement whether a lease holds
-- them, and reports what it could not change instead of waiting for it: a verb that waited with rows locked would hold up
-- the workers' settles. Every verb leaves a row in operator_actions. Select the rows with the view, for instance
--     select * from cancel_notifications(array(select id from notifications where business_ref = 'order-17' and finished_at is null limit 1000));
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- wxnotify.actor is the operating system's user, as the command line tells it; the database user is certain.
create function wxnotify_record_action(p_action text, p_filter jsonb, p_rows bigint, p_note text) returns void
language sql volatile set search_path from current as $$
    insert into operator_actions (actor, action, filter, rows_changed, note)
    values (session_user || coalesce(' (' || nullif(current_setting('wxnotify.actor', true), '') || ')', ''), p_action, p_filter, p_rows, p_note)
$$;
comment on function wxnotify_record_action is 'Writes the audit row of an operator''s verb.';

-- Locks the rows that nobody else holds and says what each asked-for id is: free, in doubt, in flight, busy (somebody else
-- holds it at this moment), its final status, or not found.
create function wxnotify_lock_rows(p_ids bigint[]) returns table (id bigint, appid text, state text)
language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_locked bigint[];
begin
    perform wxnotify_need_read_committed();
    if cardinality(p_ids) > 1000 then
        raise exception 'too many rows at once: % ids, at most 1000 a call', cardinality(p_ids)
            using hint = 'Call again with the next 1000 in a transaction of their own, or use the command line.';
    end if;
    v_locked := array(select p.id from pending_notifications p where p.id = any (p_ids) order by p.id for update skip locked);
    -- A later statement: its snapshot is newer than the locks, so a lease either waited for them or is seen here.
    return query
        select u.id, coalesce(p.appid, h.appid),
               case when p.id is null then coalesce(h.status, 'not found')
                    when u.id <> all (v_locked) then 'busy'
                    -- what a lease has settled, while it still holds other rows, is not in flight any more
                    when u.id in (select unnest(l.ids) from notification_leases l)
                         and (p.last_lease is null or (u.id, p.last_lease) not in (
                              select x.id, l.lease_id from notification_leases l cross join lateral unnest(l.ids) x (id))) then 'in flight'
                    when p.in_doubt_since is not null then 'in doubt'
                    else 'free' end
        from (select distinct unnest(p_ids)) u (id)
        left join lateral (select r.id, r.appid, r.last_lease, r.in_doubt_since from pending_notifications r where r.id = u.id limit 1) p on true
        left join lateral (select f.appid, f.status from notification_history f where f.id = u.id limit 1) h on p.id is null
        order by u.id;
end $$;
comment on function wxnotify_lock_rows is 'Locks rows for an operator''s verb and says which of them it may change.';

create function cancel_notifications(p_ids bigint[], p_doubts boolean default false, p_note text default null, p_filter jsonb default null)
returns table (id bigint, result text)
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 as $$
#variable_conflict use_column
declare
    v_ids      bigint[];
    v_appids   text[];
    v_states   text[];
    v_appid    text;
    v_changed  bigint := 0;
begin
    select array_agg(r.id), array_agg(r.appid), array_agg(r.state) into v_ids, v_appids, v_states from wxnotify_lock_rows(p_ids) r;
    for v_appid in select distinct u.appid from unnest(v_appids, v_states) u (appid, state)
                   where u.state = 'free' or (p_doubts and u.state = 'in doubt') loop
        -- A row in doubt never ends cancelled: that would claim that nothing was sent.
        select v_changed + wxnotify_finish(v_appid, array_agg(u.id),
                   array_agg(case u.state when 'free' then 'cancelled' else 'unresolved' end), 'operator', null)
        into v_changed
        from unnest(v_ids, v_appids, v_states) u (id, appid, state)
        where u.appid = v_appid and (u.state = 'free' or (p_doubts and u.state = 'in doubt'));
    end loop;
    perform wxnotify_record_action('cancel', coalesce(p_filter, jsonb_build_object('ids', p_ids)), v_changed, p_note);
    return query select u.id, case when u.state = 'free' then 'cancelled' when u.state = 'in doubt' and p_doubts then 'unresolved' else u.state end
                 from unnest(v_ids, v_states) u (id, state);
end $$;
comment on function cancel_notifications is 'Cancels rows not yet final, at most 1,000 a call. Rows in flight are reported, not waited for; rows in doubt too, unless p_doubts: then they end unresolved.';

create function cancel_notification(p_id bigint, p_note text default null) returns text
language sql volatile set search_path from current as $$
    select c.result from cancel_notifications(array[p_id], true, p_note) c
$$;
comment on function cancel_notification is 'Cancels one row. Returns cancelled, unresolved (it was in doubt), in flight, busy, its final status, or not found.';

create function reschedule_notifications(
    p_ids bigint[], p_send_at timestamptz, p_expire_at timestamptz default null, p_note text default null, p_filter jsonb default null)
returns table (id bigint, result text)
language plpgsql volatile set search_path from current as $$
#variable_conflict use_column
declare
    v_ids     bigint[];
    v_states  text[];
    v_changed bigint[];
    v_send_at timestamptz := coalesce(p_send_at, clock_timestamp());
begin
    select array_agg(r.id), array_agg(r.state) into v_ids, v_states from wxnotify_lock_rows(p_ids) r;
    -- Without the workers' flag: the guard trigger computes due anew and frees the dedup key, as for a producer's UPDATE.
    with changed as (
        update pending_notifications p set send_at = v_send_at, expire_at = coalesce(p_expire_at, p.expire_at)
        where p.id = any (array(select u.id from unnest(v_ids, v_states) u (id, state) where u.state = 'free'))
          and coalesce(coalesce(p_expire_at, p.expire_at) > v_send_at, true)
        returning p.id)
    select coalesce(array_agg(c.id), '{}') into v_changed from changed c;
    perform wxnotify_record_action('reschedule',
        coalesce(p_filter, jsonb_build_object('ids', p_ids)) || jsonb_strip_nulls(jsonb_build_object('send_at', p_send_at, 'expire_at', p_expire_at)),
        cardinality(v_changed), p_note);
    return query select u.id, case when u.id = any (v_changed) then 'rescheduled' when u.state = 'free' then 'expires before send_at' else u.state end
                 from unnest(v_ids, v_states) u (id, state);
end $$;
comment on function reschedule_notifications is 'Moves rows to another send_at (null: now) and, if given, another expire_at; at most 1,000 a call. Rows in flight or in doubt are reported. A held row stays held.';

create function reschedule_notification(p_id bigint, p_send_at timestamptz, p_expire_at timestamptz default null, p_note text default null) returns text
language sql volatile set search_path from current as $$
    select r.result from reschedule_notifications(array[p_id], p_send_at, p_expire_at, p_note) r
$$;
comment on function reschedule_notification is 'Moves one row to another send_at (null: now). Returns rescheduled, expires before send_at, in flight, in doubt, busy, its final status, or not found.';

create function redrive_notifications(
    p_ids bigint[], p_send_at timestamptz default null, p_expire_at timestamptz default null, p_note text default null, p_filter jsonb default null)
returns table (id bigint, result text, new_id bigint)
language plpgsql volatile set search_path from current as $$
#variable_conflict use_column
declare
    v_row     notification_history;
    v_changed bigint := 0;
    v_actor   text := session_user || coalesce(' (' || nullif(current_setting('wxnotify.actor', true), '') || ')', '');
begin
    perform wxnotify_need_read_committed();
    if cardinality(p_ids) > 1000 then
        raise exception 'too many rows at once: % ids, at most 1000 a call', cardinality(p_ids)
            using hint = 'Call again with the next 1000 in a transaction of their own, or use the command line.';
    end if;
    for id in select distinct u.id from unnest(p_ids) u (id) order by u.id loop
        result := null;
        new_id := null;
        select * into v_row from notification_history h where h.id = redrive_notifications.id limit 1;
        if not found then
            result := case when exists (select 1 from pending_notifications p where p.id = redrive_notifications.id) then 'not final' else 'not found' end;
        elsif v_row.status not in ('dead', 'unresolved', 'expired', 'cancelled') then
            result := v_row.status;
        elsif v_row.openid is null then
            result := 'has no receiver: its login code was never exchanged';
        else
            begin
                insert into notification_redrives (redriven_id, new_id, appid, actor)
                values (v_row.id, nextval(pg_get_serial_sequence('pending_notifications', 'id')), v_row.appid, v_actor)
                on conflict (redriven_id) do nothing
                returning notification_redrives.new_id into new_id;
                if new_id is null then
                    result := 'already redriven';
                    select r.new_id into new_id from notification_redrives r where r.redriven_id = v_row.id;
                else
                    insert into pending_notifications (id, appid, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at,
                        held, expire_at, lane, dedup_key, business_ref, on_doubt, attempts_max)
                    overriding system value
                    values (new_id, v_row.appid, v_row.kind, v_row.openid, v_row.template_id, v_row.page, v_row.data, v_row.extra,
                        v_row.miniprogram_state, v_row.lang, coalesce(p_send_at, clock_timestamp()), v_row.held,
                        coalesce(p_expire_at, case when v_row.expire_at > clock_timestamp() then v_row.expire_at end),
                        v_row.lane, v_row.dedup_key, v_row.business_ref, v_row.on_doubt, v_row.attempts_max);
                    result := case when v_row.status = 'dead' and (v_row.credit = 'gone' or v_row.errcode = 43101)
                                   then 'redriven, but its credit was gone' else 'redriven' end;
                    v_changed := v_changed + 1;
                end if;
            exception when check_violation then
                -- The rules for a row grew stricter since it was inserted. The message names the rule, not the text.
                new_id := null;
                result := sqlerrm;
            end;
        end if;
        return next;
    end loop;
    perform wxnotify_record_action('redrive',
        coalesce(p_filter, jsonb_build_object('ids', p_ids)) || jsonb_strip_nulls(jsonb_build_object('send_at', p_send_at, 'expire_at', p_expire_at)),
        v_changed, p_note);
end $$;
comment on function redrive_notifications is 'Inserts a new row from each dead, unresolved, expired or cancelled one, at most 1,000 a call; the old row stays in the history, and is redriven once (then redrive the new one). An expire_at that has passed is dropped. A message whose credit was gone is answered so: it meets 43101 again unless the user gave a new one; an unresolved one may arrive twice.';

create function redrive_notification(p_id bigint, p_note text default null) returns bigint
language plpgsql volatile set search_path from current as $$
declare
    v_redriven record;
begin
    select * into v_redriven from redrive_notifications(array[p_id], p_note => p_note);
    if v_redriven.result is null or v_redriven.result not like 'redriven%' then
        raise exception 'notification % cannot be redriven: %', p_id, coalesce(v_redriven.result, 'not found')
            using hint = 'Only dead, unresolved, expired and cancelled notifications are redriven, each once: select * from explain_notification(id).';
    end if;
    if v_redriven.result <> 'redriven' then
        raise notice 'notification %: %', p_id, v_redriven.result
            using hint = 'It meets 43101 again unless the user gave a new credit.';
    end if;
    return v_redriven.new_id;
end $$;
comment on function redrive_notification is 'Inserts a new row from a dead, unresolved, expired or cancelled one and returns its id.';

-- The operator knows, or decides, what no evidence settled. p_verdict: sent, not_sent (send it, nothing arrived) or retry
-- (send it although it may have arrived; the doubt stays on record, and the row ends with may_be_doubled).
create function wxnotify_end_doubts(p_ids bigint[], p_verdict text, p_note text default null, p_filter jsonb default null)
returns table (id bigint, result text)
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 as $$
#variable_conflict use_column
declare
    v_ids     bigint[];
    v_appids  text[];
    v_states  text[];
    v_at      int;
    v_changed bigint := 0;
begin
    if p_verdict is null or p_verdict not in ('sent', 'not_sent', 'retry') then
        raise exception 'verdict %: must be sent, not_sent or retry', coalesce(p_verdict, 'null');
    end if;
    select array_agg(r.id), array_agg(r.appid), array_agg(r.state) into v_ids, v_appids, v_states from wxnotify_lock_rows(p_ids) r;
    for v_at in 1..coalesce(cardinality(v_ids), 0) loop
        if v_states[v_at] = 'free' then
            v_states[v_at] := 'not in doubt';
        end if;
        continue when v_states[v_at] <> 'in doubt';
        if p_verdict = 'sent' then
            perform wxnotify_finish(v_appids[v_at], array[v_ids[v_at]], array['sent'], 'operator', null);
        else
            update pending_notifications p
            set attempts_max = greatest(p.attempts_max, least(p.attempts + 1, 100)),   -- else the next tidy would end it unsent
                on_doubt = case p_verdict when 'retry' then 'retry' else p.on_doubt end,
                in_doubt_since = case p_verdict when 'retry' then p.in_doubt_since end,
                waiting_for = case p_verdict when 'retry' then 'doubt' end,
                due = wxnotify_next_due(p.held, p.send_at, p.expire_at)
            where p.id = v_ids[v_at];
        end if;
        v_states[v_at] := case p_verdict when 'sent' then 'confirmed sent' when 'not_sent' then 'confirmed not sent' else 'sent again' end;
        v_changed := v_changed + 1;
    end loop;
    if v_changed > 0 and p_verdict <> 'sent' then
        perform wxnotify_ring();
    end if;
    perform wxnotify_record_action(case p_verdict when 'sent' then 'confirm_sent' when 'not_sent' then 'confirm_not_sent' else 'retry_anyway' end,
        coalesce(p_filter, jsonb_build_object('ids', p_ids)), v_changed, p_note);
    return query select u.id, u.state from unnest(v_ids, v_states) u (id, state);
end $$;
comment on function wxnotify_end_doubts is 'Ends doubts by an operator''s word: sent, not_sent or retry; at most 1,000 a call.';

create function confirm_sent(p_id bigint, p_note text default null) returns text
language sql volatile set search_path from current as $$ select d.result from wxnotify_end_doubts(array[p_id], 'sent', p_note) d $$;
comment on function confirm_sent is 'For a row in doubt: the user received it; it ends sent. Returns confirmed sent, not in doubt, in flight, busy, its final status, or not found.';

create function confirm_not_sent(p_id bigint, p_note text default null) returns text
language sql volatile set search_path from current as $$ select d.result from wxnotify_end_doubts(array[p_id], 'not_sent', p_note) d $$;
comment on function confirm_not_sent is 'For a row in doubt: the user did not receive it; the doubt is over and it is sent. Returns confirmed not sent, not in doubt, in flight, busy, its final status, or not found.';

create function retry_anyway(p_id bigint, p_note text default null) returns text
language sql volatile set search_path from current as $$ select d.result from wxnotify_end_doubts(array[p_id], 'retry', p_note) d $$;
comment on function retry_anyway is 'For a row in doubt: send it now, although the user may receive it twice. Returns sent again, not in doubt, in flight, busy, its final status, or not found.';

create function add_app(p_appid text, p_name text default null, p_rate_per_second real default null, p_note text default null) returns boolean
language plpgsql volatile set search_path from current as $$
declare
    v_added boolean;
begin
    insert into wechat_apps as a (appid, name, rate_per_second) values (p_appid, p_name, p_rate_per_second)
    on conflict (appid) do update set name = coalesce(excluded.name, a.name), rate_per_second = coalesce(excluded.rate_per_second, a.rate_per_second)
    returning a.xmax = 0 into v_added;
    perform wxnotify_record_action('add_app', jsonb_strip_nulls(jsonb_build_object('appid', p_appid, 'name', p_name, 'rate_per_second', p_rate_per_second)), 1, p_note);
    return v_added;
end $$;
comment on function add_app is 'Registers a mini-program, or changes its name and rate; rows that waited for it start (resume_app un-parks them at once). True: it was new.';

create function set_default_app(p_appid text, p_note text default null) returns void
language plpgsql volatile set search_path from current set lock_timeout = '5s' as $$
begin
    execute format('alter table pending_notifications alter appid set default %L', p_appid);
    perform wxnotify_record_action('set_default_app', jsonb_build_object('appid', p_appid), 1, p_note);
end $$;
comment on function set_default_app is 'Makes a mini-program the default of pending_notifications.appid, so that INSERTs may leave it out. Only the table''s owner can.';

create function wxnotify_need_app(p_appid text) returns void
language plpgsql stable set search_path from current as $$
begin
    if not exists (select 1 from wechat_apps a where a.appid = p_appid) then
        raise exception 'app % is not registered', coalesce(p_appid, 'null')
            using errcode = 'no_data_found', hint = 'Register it with `wxnotify app add APPID`, or look at `wxnotify app list` for the right one.';
    end if;
end $$;
comment on function wxnotify_need_app is 'Raises when a mini-program is not registered.';

create function set_app_rate(p_appid text, p_rate_per_second real, p_note text default null) returns void
language plpgsql volatile set search_path from current as $$
begin
    perform wxnotify_need_app(p_appid);
    update wechat_apps set rate_per_second = p_rate_per_second where appid = p_appid;
    perform wxnotify_record_action('set_app_rate', jsonb_build_object('appid', p_appid, 'rate_per_second', p_rate_per_second), 1, p_note);
end $$;
comment on function set_app_rate is 'Most sends per second of all workers together; null: no limit.';

create function pause_app_by_operator(p_appid text, p_until timestamptz default 'infinity', p_reason text default 'by an operator', p_note text default null) returns void
language plpgsql volatile set search_path from current as $$
begin
    perform wxnotify_need_app(p_appid);
    update wechat_apps set paused_until = coalesce(p_until, 'infinity'), pause_reason = coalesce(p_reason, 'by an operator'), pause_errcode = null
    where appid = p_appid;
    perform wxnotify_record_action('pause_app', jsonb_build_object('appid', p_appid, 'until', coalesce(p_until, 'infinity')::text), 1, p_note);
end $$;
comment on function pause_app_by_operator is 'Nothing more of this mini-program is leased until then (null or infinity: until resume_app). What is in flight is finished.';

create function pause_template_by_operator(p_appid text, p_template_id text, p_until timestamptz default 'infinity', p_reason text default 'by an operator', p_note text default null)
returns void language plpgsql volatile set search_path from current as $$
begin
    insert into wechat_templates (appid, template_id, paused_until, pause_reason)
    values (p_appid, p_template_id, coalesce(p_until, 'infinity'), coalesce(p_reason, 'by an operator'))
    on conflict (appid, template_id) do update set paused_until = excluded.paused_until, pause_reason = excluded.pause_reason, pause_errcode = null;
    perform wxnotify_record_action('pause_template', jsonb_build_object('appid', p_appid, 'template_id', p_template_id, 'until', coalesce(p_until, 'infinity')::text), 1, p_note);
end $$;
comment on function pause_template_by_operator is 'Rows of this template wait until then (null or infinity: until resume_template).';

-- Rows that tidy parked for a pause become due again, at most p_rows. THE CALLER HAS TAKEN THE APP LOCK after ending the
-- pause: a tidy that still saw the pause has then committed what it parked.
create function wxnotify_unpark(p_appid text, p_template_id text, p_waiting_for text, p_rows int) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 as $$
declare
    v_rows int;
begin
    with parked as (
        select p.id from pending_notifications p
        where p.appid = p_appid and (p_template_id is null or p.template_id = p_template_id) and p.waiting_for = p_waiting_for
          and p.waiting_for in ('template', 'app')
        limit least(p_rows, 1000) for update skip locked)
    update pending_notifications p
    set due = wxnotify_next_due(p.held, p.send_at, p.expire_at), waiting_for = case when p.in_doubt_since is not null then 'doubt' end
    where p.id = any (array(select parked.id from parked));
    get diagnostics v_rows = row_count;
    perform wxnotify_ring();
    return v_rows;
end $$;
comment on function wxnotify_unpark is 'Makes rows parked for a pause due again.';

create function resume_app(p_appid text, p_rows int default 1000, p_note text default null) returns integer
language plpgsql volatile set search_path from current as $$
declare
    v_rows int;
begin
    perform wxnotify_need_read_committed();
    perform wxnotify_need_app(p_appid);
    update wechat_apps set paused_until = null, pause_reason = null, pause_errcode = null where appid = p_appid;
    perform wxnotify_lock_app(p_appid);
    v_rows := wxnotify_unpark(p_appid, null, 'app', p_rows);
    perform wxnotify_record_action('resume_app', jsonb_build_object('appid', p_appid), v_rows, p_note);
    return v_rows;
end $$;
comment on function resume_app is 'Ends the pause of a mini-program and makes at most 1,000 parked rows due. Returns how many: call again, in a transaction of its own, while it returns 1000; the rest comes by itself within minutes.';

create function resume_template(p_appid text, p_template_id text, p_rows int default 1000, p_note text default null) returns integer
language plpgsql volatile set search_path from current as $$
declare
    v_rows int;
begin
    perform wxnotify_need_read_committed();
    update wechat_templates set paused_until = null, pause_reason = null, pause_errcode = null where appid = p_appid and template_id = p_template_id;
    perform wxnotify_lock_app(p_appid);
    v_rows := wxnotify_unpark(p_appid, p_template_id, 'template', p_rows);
    perform wxnotify_record_action('resume_template', jsonb_build_object('appid', p_appid, 'template_id', p_template_id), v_rows, p_note);
    return v_rows;
end $$;
comment on function resume_template is 'Ends the pause of a template and makes at most 1,000 parked rows due. Returns how many: call again while it returns 1000.';

revoke execute on function wxnotify_record_action, wxnotify_lock_rows, cancel_notifications, cancel_notification, reschedule_notifications,
    reschedule_notification, redrive_notifications, redrive_notification, wxnotify_end_doubts, confirm_sent, confirm_not_sent, retry_anyway,
    add_app, set_default_app, wxnotify_need_app, set_app_rate, pause_app_by_operator, pause_template_by_operator, wxnotify_unpark, resume_app, resume_template from public;
