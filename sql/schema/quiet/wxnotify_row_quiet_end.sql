-- When the quiet hours end that a row, due at p_at by wxnotify's own doing, would fall into; null: none, or its reminder ignores them.
create or replace function wxnotify_row_quiet_end(p_appid text, p_template_id text, p_lane smallint, p_schedule_id bigint, p_at timestamptz) returns timestamptz
language plpgsql stable set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    if p_schedule_id is null then
        return wxnotify_quiet_end(p_appid, p_template_id, p_lane, null, p_at);
    end if;
    return (select wxnotify_schedule_quiet_end(s, p_at) from reminder_schedules s where s.id = p_schedule_id);
end $$;

comment on function wxnotify_row_quiet_end is 'When the quiet hours end that a row would fall into; null: none.';

grant execute on function wxnotify_row_quiet_end to wxnotify_worker;
