-- Records outcomes of a lease's rows. p_sent_ids were accepted by WeChat; p_ids have any other verdict:
-- dead, expired, retry, park, doubt, release, or what asking for a service card's state brought: found or not_found. Idempotent: it touches only rows of the lease that it has not settled before.
-- Returns the ids of this call that are not settled (somebody else holds the row): call again with them. Null means
-- fenced: the lease is gone, or this was the repeat of a closing settle.
create or replace function wxnotify_settle(
    p_appid text, p_lease_id bigint, p_worker text, p_close boolean, p_sent_ids bigint[], p_sent_msgids bigint[],
    p_ids bigint[], p_verdicts text[], p_delays_secs float8[], p_waiting_for text[], p_errcodes bigint[], p_errmsgs text[], p_rids text[],
    p_http_statuses smallint[], p_reasons text[], p_response_ms int[], p_credits text[],
    p_doubt_window_secs float8, p_doubt_age_secs float8) returns bigint[]
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_mergejoin = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_lease   notification_leases;
    v_ids     bigint[];
    v_msgids  bigint[];
    v_rest    bigint[] := '{}';
    v_settled int := 0;
begin
    perform wxnotify_need_read_committed();
    select * into v_lease from notification_leases
    where appid = p_appid and lease_id = p_lease_id and worker = p_worker for update;
    if not found then
        return null;
    end if;
    if cardinality(p_sent_ids) > 0 then
        select array_agg(c.id), array_agg(c.msgid) into v_ids, v_msgids from (
            select l.id, u.msgid from unnest(p_sent_ids, p_sent_msgids) u (id, msgid) cross join lateral (
                select p.id from pending_notifications p where p.id = u.id and p.last_lease is distinct from p_lease_id
                limit 1 for update skip locked) l
            where u.id = any (v_lease.ids)) c;
        if v_ids is not null then
            v_settled := wxnotify_finish(p_appid, v_ids, array_fill('sent'::text, array[cardinality(v_ids)]), 'reply', p_worker,
                p_msgids => v_msgids, p_attempts => 1::smallint);
        end if;
    end if;
    if p_verdicts && array['found', 'not_found'] then
        v_settled := v_settled + wxnotify_settle_read_backs(v_lease, p_ids, p_verdicts, p_errcodes, p_errmsgs, p_rids, p_http_statuses, p_reasons,
            p_response_ms);
    end if;
    if cardinality(p_ids) > 0 then
        v_settled := v_settled + wxnotify_settle_unsent(v_lease, p_ids, p_verdicts, p_delays_secs, p_waiting_for, p_errcodes, p_errmsgs, p_rids,
            p_http_statuses, p_reasons, p_response_ms, p_credits, p_doubt_window_secs, p_doubt_age_secs);
    end if;
    -- The look for stragglers can be left out only when this very call settled the whole lease.
    if v_settled < cardinality(v_lease.ids) then
        v_rest := array(select p.id from pending_notifications p where p.id = any (v_lease.ids) and p.last_lease is distinct from p_lease_id);
    end if;
    if p_close then
        if v_rest = '{}' then
            delete from notification_leases where appid = p_appid and lease_id = p_lease_id;
        elsif 2 * cardinality(v_rest) <= cardinality(v_lease.ids) then
            -- Only stragglers are left: let the other users go.
            update notification_leases
            set ids = v_rest, user_keys = array(select v_lease.user_keys[array_position(v_lease.ids, r)] from unnest(v_rest) r)
            where appid = p_appid and lease_id = p_lease_id;
        end if;
    end if;
    if v_rest = '{}' then
        return v_rest;
    end if;
    return array(select unnest(p_sent_ids || p_ids) intersect select unnest(v_rest));
end $$;

comment on function wxnotify_settle is 'Records outcomes of a lease''s rows.';

grant execute on function wxnotify_settle to wxnotify_worker;
