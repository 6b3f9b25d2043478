-- Drops the oldest partition whose month ended p_keep_months or more ago. Returns its name, or null: there is none. Detaching
-- needs the parent for a moment, and settles wait while it waits for readers: never longer than the lock_timeout, then it
-- fails and is called again later. CONCURRENTLY would not hold them up, but no function may use it, and only the owner could
-- call it: SECURITY DEFINER keeps ownership, and every DDL with it, from the worker.
create or replace function wxnotify_drop_old_partition(p_keep_months int) returns text
language plpgsql volatile security definer set search_path from current set timezone = 'UTC' set lock_timeout = '250ms' as $$
declare
    v_old  record;
    v_name text;
begin
    if p_keep_months is null or p_keep_months < 1 then
        raise exception 'months to keep: must be 1 or more, not %', coalesce(p_keep_months::text, 'null');
    end if;
    perform pg_advisory_xact_lock(20787, 0);
    select t.parent, p.partition into v_old
    from unnest(array['notification_history'::regclass, 'notification_attempts'::regclass]) t (parent) cross join lateral wxnotify_partitions(t.parent) p
    where p.to_at <= date_trunc('month', now()) - make_interval(months => p_keep_months)
    order by p.to_at, p.partition::text limit 1;
    if not found then
        return null;
    end if;
    v_name := v_old.partition;  -- a regclass of what is gone reads as a number
    execute format('alter table %s detach partition %s', v_old.parent, v_old.partition);
    execute format('drop table %s', v_old.partition);
    return v_name;
end $$;

comment on function wxnotify_drop_old_partition is 'Drops the oldest partition that retention need not keep.';

grant execute on function wxnotify_drop_old_partition to wxnotify_worker;
