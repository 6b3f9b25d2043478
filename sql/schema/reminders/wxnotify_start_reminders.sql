-- The durable record before the first send of a lease that holds rows of reminders. Each such row is looked at once more: its schedule is locked FOR
-- SHARE and its version and pause compared under that lock, so that after an edit's commit no older row starts; its user must still be on the
-- list; and it takes its credit, what expires first, then the oldest tap. Nothing is waited for. What may not go leaves the lease, ended or
-- put off. Returns when it was started and what may go; no row: the lease is gone. A repeat changes nothing.
create or replace function wxnotify_start_reminders(p_appid text, p_lease_id bigint, p_worker text, p_secs float8, p_leased_at timestamptz)
returns table (started_at timestamptz, ids bigint[])
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v_lease   notification_leases;
    v_stay    bigint[];  -- of the reminders, those that may go
    v_go      bigint[];
begin
    perform wxnotify_need_read_committed();
    select * into v_lease from notification_leases l
    where l.appid = p_appid and l.lease_id = p_lease_id and l.worker = p_worker and l.leased_at = p_leased_at for update;
    if not found then
        return;
    end if;
    v_go := v_lease.ids;
    if v_lease.started_at is null and v_lease.reminder_ids is not null then
        v_stay := wxnotify_judge_reminders(p_appid, v_lease.reminder_ids);
        v_go := array(select u.id from unnest(v_lease.ids) with ordinality u (id, n) where u.id <> all (v_lease.reminder_ids) or u.id = any (v_stay) order by u.n);
    end if;
    if v_go = '{}' then
        delete from notification_leases l where l.appid = p_appid and l.lease_id = p_lease_id;
        return query select clock_timestamp(), v_go;
        return;
    end if;
    return query
        update notification_leases l
        set started_at = coalesce(l.started_at, clock_timestamp()), expires_at = clock_timestamp() + make_interval(secs => p_secs), ids = v_go,
            user_keys = array(select v_lease.user_keys[array_position(v_lease.ids, g)] from unnest(v_go) g)
        where l.appid = p_appid and l.lease_id = p_lease_id
        returning l.started_at, l.ids;
end $$;

comment on function wxnotify_start_reminders is 'The durable record before the first send of a lease that holds rows of reminders.';

grant execute on function wxnotify_start_reminders to wxnotify_worker;
