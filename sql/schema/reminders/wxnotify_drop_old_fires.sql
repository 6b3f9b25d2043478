-- Forgets fires, what became of their rows, and names of deleted schedules, a bounded number a call. Returns how many were forgotten.
create or replace function wxnotify_drop_old_fires(p_days int default 90) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_before timestamptz := clock_timestamp() - make_interval(days => p_days);
    v_fires  int;
    v_rows   int;
begin
    delete from reminder_fires f where f.ctid = any (array(
        select x.ctid from reminder_fires x where x.fire_at < v_before and x.state <> 'open' order by x.fire_at limit 5000));
    get diagnostics v_fires = row_count;
    delete from reminder_results r where r.ctid = any (array(select x.ctid from reminder_results x where x.at < v_before limit 5000));
    get diagnostics v_rows = row_count;
    delete from reminder_schedules_deleted d where d.ctid = any (array(
        select x.ctid from reminder_schedules_deleted x where x.deleted_at < v_before - interval '1 year' limit 5000));
    return v_fires + v_rows;
end $$;

comment on function wxnotify_drop_old_fires is 'Forgets old fires of reminders.';

grant execute on function wxnotify_drop_old_fires to wxnotify_worker;
