-- What a restore of some tables without the others leaves behind, each counted up to 1,000: rows whose counted attempts have no row in
-- notification_attempts though its month is there; and rows that name a lease whose number has not been given out here: a coming
-- lease of that number would not be taken for the first to send them. SECURITY DEFINER for the sequence.
create or replace function wxnotify_missing_traces(out without_attempts bigint, out of_unknown_leases bigint)
language sql stable security definer set search_path from current set jit = off as $$
    select (select count(*) from (
                select from pending_notifications p
                where (p.waiting_for = 'retry' and p.attempts > 0 or p.in_doubt_since is not null)
                  and to_char(coalesce(p.last_attempt_at, p.in_doubt_since) at time zone 'UTC', 'YYYY_MM')
                      >= (select min(right(c.relname, 7)) from pg_inherits i join pg_class c on c.oid = i.inhrelid
                          where i.inhparent = 'notification_attempts'::regclass)
                  and not exists (select from notification_attempts a where a.notification_id = p.id)
                limit 1000) r),
           (select count(*) from (
                select from pending_notifications p
                where p.waiting_for is not null
                  and p.last_lease > (select case when s.is_called then s.last_value else 0 end from notification_leases_lease_id_seq s)
                limit 1000) r)
$$;

comment on function wxnotify_missing_traces is 'Rows whose attempts or leases a partial restore has left behind; `wxnotify doctor` asks.';

grant execute on function wxnotify_missing_traces to wxnotify_operator, wxnotify_worker;
