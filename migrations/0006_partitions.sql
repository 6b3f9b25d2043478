-- Monthly partitions of the history and the attempts, made ahead. CREATE TABLE … PARTITION OF would wait behind readers
-- with every settle waiting behind it, so a partition is made as a plain table and then attached, with a lock_timeout.
-- There is no default partition: it would make ATTACH block and DETACH CONCURRENTLY impossible.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Makes the partitions of this month and the p_months after it, and of the month before. Returns how many were made.
create function wxnotify_make_partitions(p_months int default 3) returns integer
language plpgsql volatile security definer set search_path from current set timezone = 'UTC' set lock_timeout = '2s' as $$
declare
    v_parent text;
    v_month  date;
    v_name   text;
    v_made   int := 0;
begin
    perform pg_advisory_xact_lock(20784, 0);
    foreach v_parent in array array['notification_history', 'notification_attempts'] loop
        for v_month in select generate_series(date_trunc('month', now()) - interval '1 month',
                                              date_trunc('month', now()) + make_interval(months => p_months), interval '1 month')::date loop
            v_name := v_parent || '_' || to_char(v_month, 'YYYY_MM');
            continue when to_regclass(quote_ident(v_name)) is not null;
            execute format('create table %I (like %I including defaults including constraints including storage including comments)', v_name, v_parent);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', v_parent, v_name,
                v_month || ' 00:00:00+00', (v_month + interval '1 month')::date || ' 00:00:00+00');
            execute format('comment on table %I is %L', v_name, 'Partition of ' || v_parent || ' for ' || to_char(v_month, 'YYYY-MM') || ' (UTC).');
            v_made := v_made + 1;
        end loop;
    end loop;
    return v_made;
end $$;

-- Drops the oldest partition whose month ended p_keep_months or more ago. Returns its name, or null: there is none. Detaching
-- needs the parent for a moment, and settles wait while it waits for readers: never longer than the lock_timeout, then it
-- fails and is called again later. CONCURRENTLY would not hold them up, but no function may use it, and only the owner could
-- call it: SECURITY DEFINER keeps ownership, and every DDL with it, from the worker.
create function wxnotify_drop_old_partition(p_keep_months int) returns text
language plpgsql volatile security definer set search_path from current set timezone = 'UTC' set lock_timeout = '250ms' as $$
declare
    v_old  record;
    v_name text;
begin
    if p_keep_months is null or p_keep_months < 1 then
        raise exception 'months to keep: must be 1 or more, not %', coalesce(p_keep_months::text, 'null');
    end if;
    perform pg_advisory_xact_lock(20784, 0);
    select i.inhparent::regclass as parent, i.inhrelid::regclass as partition into v_old
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('notification_history'::regclass, 'notification_attempts'::regclass)
      -- As text: some plans compare the name of every relation there is.
      and right(c.relname, 7) < to_char(date_trunc('month', now()) - make_interval(months => p_keep_months), 'YYYY_MM')
    order by right(c.relname, 7), c.relname limit 1;
    if not found then
        return null;
    end if;
    v_name := v_old.partition;  -- a regclass of what is gone reads as a number
    execute format('alter table %s detach partition %s', v_old.parent, v_old.partition);
    execute format('drop table %s', v_old.partition);
    return v_name;
end $$;

select wxnotify_make_partitions(3);

revoke execute on function wxnotify_make_partitions, wxnotify_drop_old_partition from public;
comment on function wxnotify_make_partitions is 'Makes the monthly partitions ahead.';
comment on function wxnotify_drop_old_partition is 'Drops the oldest partition that retention need not keep.';
