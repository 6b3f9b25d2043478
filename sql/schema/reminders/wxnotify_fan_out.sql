-- One chunk of one open fire: the fire's lock, its schedule's, its rows and its cursor in one transaction, so a worker that dies leaves the
-- fire where it was. The schedule is read under its lock, so a chunk is never of an old version. Fires take turns by their last chunk.
-- Returns the receivers seen to; null: no fire is open now.
create or replace function wxnotify_fan_out(p_rows int) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    f         reminder_fires;
    s         reminder_schedules;
    v_now     timestamptz := clock_timestamp();
    v_is_late boolean;
    v_chunk   record;
begin
    perform wxnotify_need_read_committed();
    select * into f from reminder_fires r where r.state = 'open' and r.chunk_at <= v_now order by r.chunk_at limit 1 for update skip locked;
    if not found then
        return null;
    end if;
    select * into s from reminder_schedules r where r.id = f.schedule_id for share skip locked;
    if not found then
        if exists (select 1 from reminder_schedules r where r.id = f.schedule_id) then
            perform wxnotify_put_off_fire(f, interval '1 second');
        else
            perform wxnotify_end_fire(f, 'cancelled', 'deleted after ' || f.made);
        end if;
        return 0;
    end if;
    v_is_late := coalesce(wxnotify_schedule_quiet_end(s, f.fire_at), f.fire_at) + s.spread + s.valid_for <= v_now;
    if f.version < s.recast_version then
        -- wxnotify_apply_changes decides what becomes of it.
        perform wxnotify_put_off_fire(f, interval '1 second');
        return 0;
    elsif s.paused_at is not null and not v_is_late then
        perform wxnotify_put_off_fire(f, interval '5 seconds');
        return 0;
    elsif v_is_late then
        perform wxnotify_end_fire(f, case f.made when 0 then 'skipped' else 'cancelled' end,
            case when s.paused_at is not null then 'paused after ' || f.made when f.made = 0 then 'too late' else 'too late after ' || f.made end);
        return 0;
    end if;
    begin
        select * into v_chunk from wxnotify_make_chunk(s, f, p_rows);
    exception when others then
        if left(sqlstate, 2) in ('08', '25', '40', '53', '55', '57', '58', 'XX') then
            raise;
        end if;
        update reminder_fires r
        set failures = least(r.failures + 1, 1000), reason = left(sqlerrm, 500), chunk_at = clock_timestamp() + least(power(2, least(r.failures, 10)), 600) * interval '1 second'
        where r.schedule_id = f.schedule_id and r.local_at = f.local_at and r.fold = f.fold;
        return 0;
    end;
    update reminder_fires r
    -- Done, it names nobody any more.
    set cursor = case when v_chunk.seen < p_rows then '' else coalesce(v_chunk.last_openid, r.cursor) end, audience = r.audience + v_chunk.seen, made = r.made + v_chunk.made, refused = r.refused + v_chunk.seen - v_chunk.made,
        version = s.version, state = case when v_chunk.seen < p_rows then 'done' else 'open' end, chunk_at = clock_timestamp(), failures = 0,
        reason = coalesce(v_chunk.rule, case when r.failures = 0 then r.reason end)
    where r.schedule_id = f.schedule_id and r.local_at = f.local_at and r.fold = f.fold;
    return v_chunk.seen;
end $$;

comment on function wxnotify_fan_out is 'Makes the next rows of an open fire.';

grant execute on function wxnotify_fan_out to wxnotify_worker;
