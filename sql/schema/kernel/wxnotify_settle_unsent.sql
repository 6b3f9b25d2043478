-- The outcomes that are not plainly sent, of rows of a lease whose row the caller has locked. Returns how many were settled.
create or replace function wxnotify_settle_unsent(
    p_lease notification_leases, p_ids bigint[], p_verdicts text[], p_delays_secs float8[], p_waiting_for text[], p_errcodes bigint[],
    p_errmsgs text[], p_rids text[], p_http_statuses smallint[], p_reasons text[], p_response_ms int[], p_credits text[],
    p_doubt_window_secs float8, p_doubt_age_secs float8) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_mergejoin = off
    set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_now      timestamptz := clock_timestamp();
    v_at       int[];
    v_ids      bigint[];
    v_rows     tid[];
    v_results  text[];
    v_final    bigint[];
    v_statuses text[];
    v_errcodes bigint[];
    v_errmsgs  text[];
    v_credits  text[];
    v_counted  int;
    v_settled  int := 0;
    v_quiet    boolean := 'retry' = any (p_verdicts) and exists (select 1 from notification_quiet_hours h where h.appid = p_lease.appid);
begin
    select array_agg(u.n), array_agg(l.id), array_agg(l.tid) into v_at, v_ids, v_rows
    from unnest(p_ids) with ordinality u (id, n) cross join lateral (
        select p.id, p.ctid as tid from pending_notifications p where p.id = u.id and p.last_lease is distinct from p_lease.lease_id
        limit 1 for update skip locked) l
    where u.id = any (p_lease.ids) and p_verdicts[u.n] not in ('found', 'not_found');
    if v_ids is null then
        return 0;
    end if;
    -- What each verdict means for its row. Doubt is sticky: after it, a row never ends as if nothing had been sent. A 43101 on
    -- the resend of a row in doubt says that the first send took the credit, if nothing else can have taken it.
    select array_agg(case
            when p_verdicts[u.n] = 'expired' then case when p.in_doubt_since is null then 'expired' else 'unresolved' end
            when p_verdicts[u.n] <> 'dead' then p_verdicts[u.n]
            when p.in_doubt_since is null then 'dead'
            when p_errcodes[u.n] is distinct from 43101 or not wxnotify_spends_credit(p.kind) then 'unresolved'
            -- A refusal explains the 43101 by itself.
            when exists (select 1 from wechat_refusals r
                         where r.appid = p.appid and r.openid = p.openid and r.template_id = p.template_id) then 'unresolved'
            when exists (select 1 from pending_notifications o
                         where o.appid = p.appid and o.openid = p.openid and o.template_id = p.template_id and o.id <> p.id) then 'unresolved'
            when exists (select 1 from notification_history h
                         where h.appid = p.appid and h.openid = p.openid and h.template_id = p.template_id
                           and h.status in ('sent', 'presumed_sent') and h.finished_at >= p.in_doubt_since) then 'unresolved'
            else 'presumed_sent' end order by u.o)
    into v_results
    from unnest(v_at, v_rows) with ordinality u (n, tid, o) join pending_notifications p on p.ctid = u.tid;

    insert into notification_attempts (notification_id, appid, attempt, result, errcode, errmsg, rid, http_status, reason, started_at, response_ms,
        worker, lease_id, finished_at)
    select u.id, p_lease.appid, p.attempts + (u.result <> 'park')::int, case u.result when 'unresolved' then 'dead' else u.result end,
        p_errcodes[u.n], left(p_errmsgs[u.n], 500), p_rids[u.n],
        p_http_statuses[u.n], left(p_reasons[u.n], 500), p_lease.started_at, p_response_ms[u.n], p_lease.worker, p_lease.lease_id, v_now
    from unnest(v_at, v_ids, v_rows, v_results) u (n, id, tid, result) join pending_notifications p on p.ctid = u.tid
    where u.result <> 'release' and p_verdicts[u.n] <> 'expired';

    for v_counted in 0..1 loop
        select array_agg(u.id), array_agg(u.result), array_agg(p_errcodes[u.n]), array_agg(left(coalesce(p_errmsgs[u.n], p_reasons[u.n]), 500)),
               array_agg(case when u.result = 'dead' then p_credits[u.n] end)
        into v_final, v_statuses, v_errcodes, v_errmsgs, v_credits
        from unnest(v_at, v_ids, v_results) u (n, id, result)
        where u.result not in ('retry', 'park', 'doubt', 'release') and (p_verdicts[u.n] <> 'expired')::int = v_counted;
        if v_final is not null then
            v_settled := v_settled + wxnotify_finish(p_lease.appid, v_final, v_statuses, case v_counted when 1 then 'reply' else 'worker' end, p_lease.worker,
                v_errcodes, v_errmsgs, null, v_credits, null, v_counted::smallint);
        end if;
    end loop;

    update pending_notifications p
    set last_lease = p_lease.lease_id,
        attempts = p.attempts + (u.result in ('retry', 'doubt'))::int,
        waiting_for = case u.result when 'release' then null when 'park' then p_waiting_for[u.n] else case when u.quiet_end is not null and p.in_doubt_since is null then 'quiet' else u.result end end,
        in_doubt_since = case u.result when 'doubt' then coalesce(p.in_doubt_since, p_lease.started_at, v_now) else p.in_doubt_since end,
        due = case
            when u.result = 'release' then wxnotify_next_due(p.held, p.send_at, p.expire_at)
            when u.result = 'doubt' then wxnotify_doubt_due(p.kind, p.extra, p.on_doubt, coalesce(p.in_doubt_since, p_lease.started_at, v_now),
                p.expire_at, p_doubt_window_secs, p_doubt_age_secs)
            when u.quiet_end is not null then least(u.quiet_end + random() * interval '2 minutes', p.expire_at)
            else least(v_now + make_interval(secs => p_delays_secs[u.n]), p.expire_at) end,
        last_errcode = case u.result when 'release' then p.last_errcode else p_errcodes[u.n] end,
        last_errmsg = case u.result when 'release' then p.last_errmsg else left(coalesce(p_errmsgs[u.n], p_reasons[u.n]), 500) end,
        last_attempt_at = case u.result when 'release' then p.last_attempt_at else v_now end
    -- Looked up anew: to finish the others may have woken this one.
    from (select w.*, r.ctid as tid, case when v_quiet and w.result = 'retry' then wxnotify_row_quiet_end(r.appid, r.template_id, r.lane, r.schedule_id,
              v_now + make_interval(secs => p_delays_secs[w.n])) end as quiet_end
          from unnest(v_at, v_ids, v_results) w (n, id, result)
          cross join lateral (select q.ctid, q.appid, q.template_id, q.lane, q.schedule_id from pending_notifications q where q.id = w.id limit 1) r) u
    where p.ctid = u.tid and u.result in ('retry', 'park', 'doubt', 'release');
    get diagnostics v_counted = row_count;
    if 'refused' = any (p_waiting_for) then
        perform wxnotify_note_43101(p_lease.appid, p_lease.started_at, array(
            select u.id from unnest(v_at, v_ids, v_results) u (n, id, result) where u.result = 'park' and p_waiting_for[u.n] = 'refused'));
    end if;
    return v_settled + v_counted;
end $$;

comment on function wxnotify_settle_unsent is 'Part of settle: outcomes that are not plainly sent.';

grant execute on function wxnotify_settle_unsent to wxnotify_worker;
