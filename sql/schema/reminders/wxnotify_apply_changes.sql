-- Sees to schedules that were inserted, edited, paused, resumed or deleted: sets their clocks, and rewrites or cancels the rows that were made of
-- an older version, p_rows of a schedule at most in a call. One worker at a time. A change is forgotten when nothing older is left.
-- Returns how many changes were looked at.
create or replace function wxnotify_apply_changes(p_rows int default 1000) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_change record;
    v_looked int := 0;
begin
    perform wxnotify_need_read_committed();
    if not exists (select 1 from reminder_changes) or not pg_try_advisory_xact_lock(20789, 0) then
        return 0;
    end if;
    for v_change in
        -- Those that could not be done with go to the end, so that however many such there are the others have their turn.
        select c.schedule_id, max(c.n) as n from (select x.schedule_id, x.n from reminder_changes x order by x.n limit 200) c group by c.schedule_id order by c.schedule_id
    loop
        if wxnotify_apply_change(v_change.schedule_id, p_rows) then
            delete from reminder_changes c where c.schedule_id = v_change.schedule_id and c.n <= v_change.n;
        else
            delete from reminder_changes c where c.schedule_id = v_change.schedule_id and c.n <= v_change.n;
            insert into reminder_changes (schedule_id) values (v_change.schedule_id);
        end if;
        v_looked := v_looked + 1;
        exit when clock_timestamp() > statement_timestamp() + interval '2 seconds';
    end loop;
    return v_looked;
end $$;

comment on function wxnotify_apply_changes is 'Sees to schedules that were changed.';

grant execute on function wxnotify_apply_changes to wxnotify_worker;
