create or replace function resume_schedule(p_id bigint, p_note text default null) returns boolean
language plpgsql volatile security definer set search_path from current as $$
begin
    perform wxnotify_need_schedule(p_id);
    update reminder_schedules s set last_paused_at = s.paused_at, last_resumed_at = clock_timestamp(), paused_at = null, pause_note = null
    where s.id = p_id and s.paused_at is not null;
    if not found then
        return false;
    end if;
    perform wxnotify_record_action('resume_schedule', jsonb_build_object('schedule_id', p_id), 1, p_note);
    return true;
end $$;

comment on function resume_schedule is 'Ends a reminder''s pause; its column missed says what becomes of times that passed. False: it was not paused.';

grant execute on function resume_schedule to wxnotify_operator;
grant execute on function resume_schedule to wxnotify_producer;
