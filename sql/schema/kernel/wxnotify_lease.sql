-- Leases of one (app, lane). An idle lane takes no lock. Always a statement of its own with a statement_timeout, so that
-- a stopped client cannot keep the app lock. A reservation may be lost in a crash of the server, hence need not wait for
-- the disk; a start must.
create or replace function wxnotify_lease(
    p_appid text, p_lane smallint, p_worker text, p_due timestamptz, p_id bigint, p_low_lease_id bigint, p_rows int, p_secs float8,
    p_start boolean default false)
returns setof wxnotify_leased
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
    set plan_cache_mode = force_generic_plan as $$
declare
    v_now timestamptz := clock_timestamp();  -- a bound for the index; the function itself would filter row by row
begin
    perform wxnotify_need_read_committed();
    perform 1 from pending_notifications p
    where p.appid = p_appid and p.lane = p_lane and p.due <= v_now and (p.due, p.id + 0) > (p_due, p_id) order by p.due, p.id + 0 limit 1;
    if not found then
        return;
    end if;
    perform wxnotify_lock_app(p_appid);
    if not p_start then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    return query select * from wxnotify_lease_locked(p_appid, p_lane, p_worker, p_due, p_id, p_low_lease_id, p_rows, p_secs, p_start);
end $$;

comment on function wxnotify_lease is 'Leases due rows of one mini-program and lane.';

grant execute on function wxnotify_lease to wxnotify_worker;
