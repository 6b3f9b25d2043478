-- Takes over leases whose worker is gone. Never started: nothing was sent, the rows are simply due. Started: what was not
-- settled may have been sent and is in doubt since the start. Any worker may call it at any time; its own leases p_known, whose
-- outcomes it holds, are left alone. Returns the rows put in doubt.
--
-- Twenty leases at most are taken over in a call, of those that can be had: one whose rows somebody holds costs a look, in an order of
-- chance, so that however many such there are, the others have their turn.
create or replace function wxnotify_rescue(p_doubt_window_secs float8, p_doubt_age_secs float8, p_worker text default null, p_known bigint[] default '{}')
returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_lease   notification_leases;
    v_ids     bigint[];
    v_rest    bigint[];
    v_rescued int := 0;
    v_taken   int := 0;
begin
    perform wxnotify_need_read_committed();
    for v_lease in
        select l.* from notification_leases l
        where l.expires_at < clock_timestamp() and not (l.worker is not distinct from p_worker and l.lease_id = any (p_known))
        order by random() for update skip locked
    loop
        exit when v_taken >= 20 or clock_timestamp() > statement_timestamp() + interval '2 seconds';
        if v_lease.started_at is null then
            delete from notification_leases where appid = v_lease.appid and lease_id = v_lease.lease_id;
            perform wxnotify_ring();
            v_taken := v_taken + 1;
            continue;
        end if;
        v_ids := array(
            select p.id from pending_notifications p
            where p.id = any (v_lease.ids) and p.last_lease is distinct from v_lease.lease_id for update skip locked);
        if v_ids <> '{}' then
            v_rescued := v_rescued + wxnotify_doubt(v_lease, v_ids, p_doubt_window_secs, p_doubt_age_secs);
        end if;
        -- Rows that somebody holds stay leased until the next call. If others were taken over, the lease is no longer the
        -- worker's: its late outcomes for those must count as late replies, not as settled already.
        v_rest := array(select p.id from pending_notifications p
                        where p.id = any (v_lease.ids) and p.last_lease is distinct from v_lease.lease_id);
        if v_rest = '{}' then
            delete from notification_leases where appid = v_lease.appid and lease_id = v_lease.lease_id;
            v_taken := v_taken + 1;
        elsif not v_ids <@ v_rest then
            update notification_leases
            set worker = v_lease.worker || case when v_lease.worker like '% (rescued)' then '' else ' (rescued)' end, ids = v_rest,
                user_keys = array(select v_lease.user_keys[array_position(v_lease.ids, r)] from unnest(v_rest) r)
            where appid = v_lease.appid and lease_id = v_lease.lease_id;
            v_taken := v_taken + 1;
        end if;
    end loop;
    return v_rescued;
end $$;

comment on function wxnotify_rescue is 'Takes over leases whose worker is gone.';

grant execute on function wxnotify_rescue to wxnotify_worker;
