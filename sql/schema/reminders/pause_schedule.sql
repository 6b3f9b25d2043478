-- By its owner or an operator. What is in flight is finished; rows that were made wait, and still expire.
create or replace function pause_schedule(p_id bigint, p_note text default null) returns boolean
language plpgsql volatile security definer set search_path from current as $$
begin
    perform wxnotify_need_schedule(p_id);
    update reminder_schedules s set paused_at = clock_timestamp(), pause_note = left(p_note, 500) where s.id = p_id and s.paused_at is null;
    if not found then
        return false;
    end if;
    perform wxnotify_record_action('pause_schedule', jsonb_build_object('schedule_id', p_id), 1, p_note);
    return true;
end $$;

comment on function pause_schedule is 'Pauses a reminder: no more fires, and rows that were made wait. False: it was paused already.';

grant execute on function pause_schedule to wxnotify_operator;
grant execute on function pause_schedule to wxnotify_producer;
