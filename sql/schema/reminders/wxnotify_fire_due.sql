-- Makes the fires that are due within p_lead_secs, of p_rows schedules at most, but for those of p_not, which could not be had a moment ago.
-- Returns the schedules that cannot be had now and how many fires were made. Any number of workers may call it at once.
create or replace function wxnotify_fire_due(p_lead_secs float8, p_rows int, p_not bigint[], out kept_back bigint[], out looked_at int, out made int)
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_to    timestamptz := clock_timestamp() + make_interval(secs => p_lead_secs);
    v_ids   bigint[];
    v_ats   timestamptz[];
    v_made  int;
    v_said  text;
begin
    perform wxnotify_need_read_committed();
    kept_back := '{}';
    made := 0;
    -- Without a lock, then in the order of ids.
    select array_agg(d.schedule_id), array_agg(d.next_fire_at) into v_ids, v_ats
    from (select x.* from (select r.schedule_id, r.next_fire_at from reminder_clock r where r.next_fire_at <= v_to and r.schedule_id <> all (p_not)
                           order by r.next_fire_at limit p_rows) x order by x.schedule_id) d;
    looked_at := coalesce(cardinality(v_ids), 0);
    for v_n in 1 .. looked_at loop
        begin
            v_made := wxnotify_fire_schedule(v_ids[v_n], v_ats[v_n], v_to);
        exception
            when check_violation then
                -- Its text breaks a rule that is younger than it. The message names the rule, not the text.
                v_made := wxnotify_fire_schedule(v_ids[v_n], v_ats[v_n], v_to, left(sqlerrm, 500));
            when others then
                if left(sqlstate, 2) in ('08', '25', '40', '53', '55', '57', '58', 'XX') then
                    raise;
                end if;
                v_said := left(sqlerrm, 500);
                update reminder_clock r set next_fire_at = clock_timestamp() + interval '1 minute', problem = v_said
                where r.schedule_id = v_ids[v_n] and r.next_fire_at = v_ats[v_n];
                v_made := 0;
        end;
        if v_made is null then
            kept_back := kept_back || v_ids[v_n];
        else
            made := made + v_made;
        end if;
        exit when clock_timestamp() > statement_timestamp() + interval '2 seconds';
    end loop;
end $$;

comment on function wxnotify_fire_due is 'Makes the fires that are due.';

grant execute on function wxnotify_fire_due to wxnotify_worker;
