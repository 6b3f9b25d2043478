-- Leases of several (app, lane) in one statement, up to p_rows of each and, but for the last, p_total in all; lanes behind that one
-- are not looked at. Each begins at a watermark of its own. An app that is busy elsewhere is passed over, so there is no lock
-- order to keep.
create or replace function wxnotify_lease_many(
    p_appids text[], p_lanes smallint[], p_dues timestamptz[], p_ids bigint[], p_low_lease_ids bigint[], p_worker text, p_rows int, p_total int,
    p_secs float8, p_start boolean default false)
returns table (appid text, lane smallint, leased wxnotify_leased)
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v_lane  record;
    v_found int;
    v_total int := 0;
begin
    perform wxnotify_need_read_committed();
    if not p_start then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    for v_lane in
        select u.appid, u.lane, u.due, u.id, u.low from unnest(p_appids, p_lanes, p_dues, p_ids, p_low_lease_ids) u (appid, lane, due, id, low)
    loop
        if pg_try_advisory_xact_lock(20786, hashtext(v_lane.appid)) then
            return query select v_lane.appid, v_lane.lane, t::wxnotify_leased
                from wxnotify_lease_locked(v_lane.appid, v_lane.lane, p_worker, v_lane.due, v_lane.id, v_lane.low, p_rows, p_secs, p_start) t;
            get diagnostics v_found = row_count;
            v_total := v_total + v_found;
            exit when v_total >= p_total;
        end if;
    end loop;
end $$;

comment on function wxnotify_lease_many is 'Leases due rows of several mini-programs and lanes.';

grant execute on function wxnotify_lease_many to wxnotify_worker;
