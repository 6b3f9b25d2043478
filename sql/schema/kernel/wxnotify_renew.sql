-- Lets started leases of a worker last longer, those whose row nobody holds: a settle of the worker's own may hold one, and
-- then nobody can take it over either. Returns those that last longer now.
create or replace function wxnotify_renew(p_appids text[], p_lease_ids bigint[], p_leased_at timestamptz[], p_worker text, p_secs float8)
returns setof bigint
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
    set jit = off set plan_cache_mode = force_generic_plan as $$
begin
    return query
        with held as materialized (
            select l.ctid as tid from unnest(p_appids, p_lease_ids, p_leased_at) u (appid, lease_id, leased_at)
            join notification_leases l on l.appid = u.appid and l.lease_id = u.lease_id and l.leased_at = u.leased_at
            where l.worker = p_worker and l.started_at is not null
            for update of l skip locked)
        update notification_leases l set expires_at = clock_timestamp() + make_interval(secs => p_secs)
        from held h where l.ctid = h.tid
        returning l.lease_id;
end $$;

comment on function wxnotify_renew is 'Lets started leases of a worker last longer.';

grant execute on function wxnotify_renew to wxnotify_worker;
