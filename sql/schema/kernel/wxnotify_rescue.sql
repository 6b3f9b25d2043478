-- Takes over leases whose worker is gone. Never started: nothing was sent, the rows are simply due. Started: what was not
-- settled may have been sent and is in doubt since the start. Any worker may call it at any time; its own leases p_known, whose
-- outcomes it holds, are left alone. Returns the rows put in doubt.
create or replace function wxnotify_rescue(p_doubt_window_secs float8, p_doubt_age_secs float8, p_worker text default null, p_known bigint[] default '{}')
returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_lease   notification_leases;
    v_ids     bigint[];
    v_rest    bigint[];
    v_rescued int := 0;
begin
    perform wxnotify_need_read_committed();
    for v_lease in
        select * from notification_leases
        where expires_at < clock_timestamp() and not (worker is not distinct from p_worker and lease_id = any (p_known))
        limit 20 for update skip locked
    loop
        if v_lease.started_at is null then
            delete from notification_leases where appid = v_lease.appid and lease_id = v_lease.lease_id;
            perform wxnotify_ring();
            continue;
        end if;
        v_ids := array(
            select p.id from pending_notifications p
            where p.id = any (v_lease.ids) and p.last_lease is distinct from v_lease.lease_id for update skip locked);
        insert into notification_attempts (notification_id, appid, attempt, result, reason, started_at, worker, lease_id, finished_at)
        select p.id, p.appid, p.attempts + 1, 'doubt', 'the worker vanished after it began to send', v_lease.started_at, v_lease.worker,
            v_lease.lease_id, clock_timestamp()
        from pending_notifications p where p.id = any (v_ids);
        update pending_notifications p
        set in_doubt_since = coalesce(p.in_doubt_since, v_lease.started_at), attempts = p.attempts + 1, rescues = p.rescues + 1,
            waiting_for = 'doubt', last_lease = v_lease.lease_id, last_errcode = null,
            last_errmsg = 'the worker vanished after it began to send', last_attempt_at = clock_timestamp(),
            due = least(case when wxnotify_reads_back(p.kind, p.extra)
                    then clock_timestamp() + make_interval(secs => least(p_doubt_window_secs, 5) * (1 + random() / 4))
                when p.on_doubt = 'retry'
                    then clock_timestamp() + make_interval(secs => p_doubt_window_secs * (1 + random() / 4))
                    else coalesce(p.in_doubt_since, v_lease.started_at) + make_interval(secs => p_doubt_age_secs) end, p.expire_at)
        where p.id = any (v_ids);
        v_rescued := v_rescued + cardinality(v_ids);
        -- Rows that somebody holds stay leased until the next call. If others were taken over, the lease is no longer the
        -- worker's: its late outcomes for those must count as late replies, not as settled already.
        v_rest := array(select p.id from pending_notifications p
                        where p.id = any (v_lease.ids) and p.last_lease is distinct from v_lease.lease_id);
        if v_rest = '{}' then
            delete from notification_leases where appid = v_lease.appid and lease_id = v_lease.lease_id;
        elsif v_ids <> '{}' then
            update notification_leases
            set worker = v_lease.worker || case when v_lease.worker like '% (rescued)' then '' else ' (rescued)' end, ids = v_rest,
                user_keys = array(select v_lease.user_keys[array_position(v_lease.ids, r)] from unnest(v_rest) r)
            where appid = v_lease.appid and lease_id = v_lease.lease_id;
        end if;
    end loop;
    return v_rescued;
end $$;

comment on function wxnotify_rescue is 'Takes over leases whose worker is gone.';

grant execute on function wxnotify_rescue to wxnotify_worker;
