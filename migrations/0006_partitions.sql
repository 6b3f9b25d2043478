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

-- The partitions whose month ended p_keep_months or more ago, oldest first, as names to detach and drop.
create function wxnotify_old_partitions(p_keep_months int) returns table (parent text, partition text)
language sql stable set search_path from current set timezone = 'UTC' as $$
    select i.inhparent::regclass::text, i.inhrelid::regclass::text
    from pg_inherits i
    where i.inhparent in ('notification_history'::regclass, 'notification_attempts'::regclass)
      and to_date(right(i.inhrelid::regclass::text, 7), 'YYYY_MM') < date_trunc('month', now()) - make_interval(months => p_keep_months)
    order by 2
$$;

select wxnotify_make_partitions(3);

revoke execute on function wxnotify_make_partitions, wxnotify_old_partitions from public;
comment on function wxnotify_make_partitions is 'Makes the monthly partitions ahead.';
comment on function wxnotify_old_partitions is 'Partitions that retention may drop.';
