-- What asking for the state of service cards brought, for rows of a lease whose row the caller has locked. found: the card is
-- in the row's state or a later one, so the row was sent, by an earlier send or by somebody else. not_found: it is not, so a
-- send in doubt did not arrive; the doubt is over and the row is due again. An errcode beside it is that of a send of this
-- very attempt, which then counts. Returns how many rows were settled.
create or replace function wxnotify_settle_read_backs(
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

comment on function wxnotify_settle_read_backs is 'Part of settle: what asking for the state of service cards brought.';

grant execute on function wxnotify_settle_read_backs to wxnotify_worker;
