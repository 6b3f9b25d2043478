-- The durable record before a lease's first send, and later its renewal. Returns when it was made, or null: the lease is
-- gone, send nothing; or it holds rows that reminders made, then wxnotify_start_reminders starts it. p_leased_at tells a lease from another whose id was issued again after a crash of the server.
create or replace function wxnotify_start(p_appid text, p_lease_id bigint, p_worker text, p_secs float8, p_leased_at timestamptz default null) returns timestamptz
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    v_started timestamptz;
begin
    update notification_leases
    set started_at = coalesce(started_at, clock_timestamp()), expires_at = clock_timestamp() + make_interval(secs => p_secs)
    where appid = p_appid and lease_id = p_lease_id and worker = p_worker and (p_leased_at is null or leased_at = p_leased_at)
      and reminder_ids is null
    returning started_at into v_started;
    return v_started;
end $$;

comment on function wxnotify_start is 'The durable record before a lease''s first send.';

grant execute on function wxnotify_start to wxnotify_worker;
