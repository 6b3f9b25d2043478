-- The same for several leases of one worker in one commit: of the flat arrays the first p_sent_counts[1] and p_counts[1] values
-- belong to the first lease, and so on. All lease rows are locked before any row, since nobody who holds rows waits. Values
-- that are refused fail the whole call: then settle each lease by itself.
create or replace function wxnotify_settle_many(
    p_worker text, p_appids text[], p_lease_ids bigint[], p_closes boolean[], p_sent_counts int[], p_counts int[],
    p_sent_ids bigint[], p_sent_msgids bigint[], p_ids bigint[], p_verdicts text[], p_delays_secs float8[], p_waiting_for text[],
    p_errcodes bigint[], p_errmsgs text[], p_rids text[], p_http_statuses smallint[], p_reasons text[], p_response_ms int[], p_credits text[],
    p_doubt_window_secs float8, p_doubt_age_secs float8) returns table (settled_lease_id bigint, kept_back bigint[])
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
    set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_sent int := 0;  -- how many values belong to the leases before
    v_rest int := 0;
    v_s    int;
    v_r    int;
begin
    perform wxnotify_need_read_committed();
    perform 1 from unnest(p_appids, p_lease_ids) u (appid, lease_id)
        join notification_leases l on l.appid = u.appid and l.lease_id = u.lease_id and l.worker = p_worker
        order by l.appid, l.lease_id for update of l;
    for v_at in 1 .. cardinality(p_lease_ids) loop
        v_s := v_sent + p_sent_counts[v_at];
        v_r := v_rest + p_counts[v_at];
        settled_lease_id := p_lease_ids[v_at];
        kept_back := wxnotify_settle(p_appids[v_at], p_lease_ids[v_at], p_worker, p_closes[v_at],
            p_sent_ids[v_sent + 1 : v_s], p_sent_msgids[v_sent + 1 : v_s], p_ids[v_rest + 1 : v_r], p_verdicts[v_rest + 1 : v_r],
            p_delays_secs[v_rest + 1 : v_r], p_waiting_for[v_rest + 1 : v_r], p_errcodes[v_rest + 1 : v_r], p_errmsgs[v_rest + 1 : v_r],
            p_rids[v_rest + 1 : v_r], p_http_statuses[v_rest + 1 : v_r], p_reasons[v_rest + 1 : v_r], p_response_ms[v_rest + 1 : v_r],
            p_credits[v_rest + 1 : v_r], p_doubt_window_secs, p_doubt_age_secs);
        return next;
        v_sent := v_s;
        v_rest := v_r;
    end loop;
end $$;

comment on function wxnotify_settle_many is 'Records outcomes of several leases'' rows in one commit.';

grant execute on function wxnotify_settle_many to wxnotify_worker;
