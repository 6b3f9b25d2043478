-- After an unclear reply to lease: gives up what the worker may have leased without knowing. It sent nothing of that, so a
-- lease started at once is given back too; one that was started later may have been sent and is left to rescue.
-- p_age_secs keeps away from a request that may still be under way.
create or replace function wxnotify_drop_unknown(p_worker text, p_known bigint[], p_age_secs float8 default 0) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_dropped int;
begin
    delete from notification_leases l
    where l.worker = p_worker and l.lease_id <> all (p_known) and l.leased_at <= statement_timestamp() - make_interval(secs => p_age_secs)
      and (l.started_at is null or l.started_at = l.leased_at)
      and (select p.id from pending_notifications p where p.id = any (l.ids) and p.last_lease = l.lease_id limit 1) is null;
    get diagnostics v_dropped = row_count;
    return v_dropped;
end $$;

comment on function wxnotify_drop_unknown is 'Gives up reservations a worker does not know.';

grant execute on function wxnotify_drop_unknown to wxnotify_worker;
