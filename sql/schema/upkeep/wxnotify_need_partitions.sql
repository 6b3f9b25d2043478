-- For who moves rows to the history without a worker that would make its partitions ahead: looks once a transaction and month.
create or replace function wxnotify_need_partitions() returns void
language plpgsql volatile set search_path from current as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_month text := to_char(v_now at time zone 'UTC', 'YYYY-MM');
begin
    if current_setting('wxnotify.partitions', true) = v_month then
        return;
    end if;
    if not exists (select 1 from wxnotify_partitions('notification_history'::regclass) p where p.from_at <= v_now and p.to_at > v_now) then
        perform wxnotify_make_partitions();
    end if;
    perform set_config('wxnotify.partitions', v_month, true);
end $$;

comment on function wxnotify_need_partitions is 'Makes the partition of this month if there is none.';

grant execute on function wxnotify_need_partitions to wxnotify_worker;
