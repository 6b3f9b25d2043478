-- Makes the partitions of this month and the p_months after it, and of the month before, where nothing holds any of the month yet.
-- A table of the usual name that is no partition (any more) is left alone: then the name is another one, which ends alike,
-- with the month. Returns how many were made.
create or replace function wxnotify_make_partitions(p_months int default 3) returns integer
language plpgsql volatile security definer set search_path from current set timezone = 'UTC' set lock_timeout = '2s' as $$
declare
    v_parent text;
    v_month  date;
    v_from   timestamptz;
    v_to     timestamptz;
    v_name   text;
    v_try    int;
    v_made   int := 0;
begin
    perform pg_advisory_xact_lock(20787, 0);
    foreach v_parent in array array['notification_history', 'notification_attempts'] loop
        for v_month in select generate_series(date_trunc('month', now()) - interval '1 month',
                                              date_trunc('month', now()) + make_interval(months => p_months), interval '1 month')::date loop
            v_from := v_month::timestamptz;
            v_to := v_from + interval '1 month';
            continue when exists (select 1 from wxnotify_partitions(v_parent::regclass) p where p.from_at < v_to and p.to_at > v_from);
            v_name := v_parent || '_' || to_char(v_month, 'YYYY_MM');
            v_try := 1;
            while to_regclass(quote_ident(v_name)) is not null loop
                v_try := v_try + 1;
                v_name := v_parent || '_' || v_try || '_' || to_char(v_month, 'YYYY_MM');
            end loop;
            execute format('create table %I (like %I including defaults including constraints including storage including comments)', v_name, v_parent);
            -- For publications; costs nothing unless wal_level is logical. Each partition has its own.
            execute format('alter table %I replica identity full', v_name);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)', v_parent, v_name,
                v_from, v_to);
            execute format('comment on table %I is %L', v_name, 'Partition of ' || v_parent || ' for ' || to_char(v_month, 'YYYY-MM') || ' (UTC).');
            v_made := v_made + 1;
        end loop;
    end loop;
    return v_made;
end $$;

comment on function wxnotify_make_partitions is 'Makes the monthly partitions ahead.';

grant execute on function wxnotify_make_partitions to wxnotify_worker;
