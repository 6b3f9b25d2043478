-- When the quiet hours end that a message of a schedule, due at p_at, would fall into; null: none, or it heeds none.
create or replace function wxnotify_schedule_quiet_end(s reminder_schedules, p_at timestamptz) returns timestamptz
language plpgsql stable set search_path from current as $$
begin
    if s.quiet = 'ignore' or s.lane = 0 then
        return null;
    end if;
    return wxnotify_quiet_end(s.appid, s.template_id, s.lane, s.time_zone, p_at);
end $$;

comment on function wxnotify_schedule_quiet_end is 'When the quiet hours end that a message of a schedule would fall into; null: none.';

grant execute on function wxnotify_schedule_quiet_end to wxnotify_worker;
