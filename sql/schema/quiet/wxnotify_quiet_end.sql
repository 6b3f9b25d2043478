-- When the quiet hours end in which p_at lies; null: it lies in none. A template's own hours stand in place of its mini-program's. Wall times are of
-- p_time_zone, a reminder's, or of the hours' own. Lane 0 is never held.
create or replace function wxnotify_quiet_end(p_appid text, p_template_id text, p_lane smallint, p_time_zone text, p_at timestamptz) returns timestamptz
language plpgsql stable set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    q       notification_quiet_hours;
    v_local timestamp;
    v_end   timestamp;
begin
    if p_lane = 0 then
        return null;
    end if;
    select * into q from notification_quiet_hours h
    where h.appid = p_appid and h.template_id in ('', p_template_id) order by h.template_id desc limit 1;
    if not found then
        return null;
    end if;
    v_local := p_at at time zone coalesce(p_time_zone, q.time_zone);
    if q.begins < q.ends then
        v_end := case when v_local::time >= q.begins and v_local::time < q.ends then v_local::date + q.ends end;
    else
        v_end := case when v_local::time >= q.begins then v_local::date + 1 + q.ends when v_local::time < q.ends then v_local::date + q.ends end;
    end if;
    -- Where clocks are set back while it is quiet, a wall time comes twice.
    return greatest(v_end at time zone coalesce(p_time_zone, q.time_zone), case when v_end is not null then p_at + interval '1 second' end);
end $$;

comment on function wxnotify_quiet_end is 'When the quiet hours end in which a moment lies; null: it lies in none.';

grant execute on function wxnotify_quiet_end to wxnotify_worker;
