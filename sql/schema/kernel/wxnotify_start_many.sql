-- The same for several leases in one commit. Those that are gone, or hold rows that reminders made, are left out of the answer.
create or replace function wxnotify_start_many(p_appids text[], p_lease_ids bigint[], p_leased_at timestamptz[], p_worker text, p_secs float8)
returns table (lease_id bigint, started_at timestamptz)
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
    return query
        update notification_leases l
        set started_at = coalesce(l.started_at, clock_timestamp()), expires_at = clock_timestamp() + make_interval(secs => p_secs)
        from unnest(p_appids, p_lease_ids, p_leased_at) u (appid, lease_id, leased_at)
        where l.appid = u.appid and l.lease_id = u.lease_id and l.worker = p_worker and l.leased_at = u.leased_at
          and l.reminder_ids is null
        returning l.lease_id, l.started_at;
end $$;

comment on function wxnotify_start_many is 'The durable record before the first sends of several leases.';

grant execute on function wxnotify_start_many to wxnotify_worker;
