-- Part of rescue: puts rows of a started lease, locked by the caller, in doubt. What others hung on our tables may refuse that: then in
-- halves, and a single row that is refused stays in its lease, where nobody sends it. Returns how many are in doubt now.
create or replace function wxnotify_doubt(p_lease notification_leases, p_ids bigint[], p_doubt_window_secs float8, p_doubt_age_secs float8) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_half       int := cardinality(p_ids) / 2;
    v_constraint text;
begin
    insert into notification_attempts (notification_id, appid, attempt, result, reason, started_at, worker, lease_id, finished_at)
    select p.id, p.appid, p.attempts + 1, 'doubt', 'the worker vanished after it began to send', p_lease.started_at, p_lease.worker,
        p_lease.lease_id, clock_timestamp()
    from pending_notifications p where p.id = any (p_ids);
    update pending_notifications p
    set in_doubt_since = coalesce(p.in_doubt_since, p_lease.started_at), attempts = p.attempts + 1, rescues = p.rescues + 1,
        waiting_for = 'doubt', last_lease = p_lease.lease_id, last_errcode = null,
        last_errmsg = 'the worker vanished after it began to send', last_attempt_at = clock_timestamp(),
        due = wxnotify_doubt_due(p.kind, p.extra, p.on_doubt, coalesce(p.in_doubt_since, p_lease.started_at), p.expire_at,
            p_doubt_window_secs, p_doubt_age_secs)
    where p.id = any (p_ids);
    return cardinality(p_ids);
exception when integrity_constraint_violation or data_exception or raise_exception or syntax_error_or_access_rule_violation or triggered_action_exception then
    get stacked diagnostics v_constraint = constraint_name;
    -- A violated check without a name is a missing partition.
    if sqlstate = '23514' and v_constraint = '' then
        if wxnotify_make_partitions() > 0 then
            return wxnotify_doubt(p_lease, p_ids, p_doubt_window_secs, p_doubt_age_secs);
        end if;
        raise;
    end if;
    if v_half = 0 then
        return 0;
    end if;
    return wxnotify_doubt(p_lease, p_ids[:v_half], p_doubt_window_secs, p_doubt_age_secs)
        + wxnotify_doubt(p_lease, p_ids[v_half + 1:], p_doubt_window_secs, p_doubt_age_secs);
end $$;

comment on function wxnotify_doubt is 'Part of rescue: puts rows of a started lease in doubt.';

grant execute on function wxnotify_doubt to wxnotify_worker;
