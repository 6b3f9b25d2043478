-- Gives back what was reserved and never started.
create or replace function wxnotify_release(p_appid text, p_lease_id bigint, p_worker text) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
begin
    delete from notification_leases where appid = p_appid and lease_id = p_lease_id and worker = p_worker and started_at is null;
    if found then
        perform wxnotify_ring();
    end if;
    return found;
end $$;

comment on function wxnotify_release is 'Gives back a lease that was never started.';

grant execute on function wxnotify_release to wxnotify_worker;
