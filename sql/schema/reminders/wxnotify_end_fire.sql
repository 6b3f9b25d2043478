create or replace function wxnotify_end_fire(f reminder_fires, p_state text, p_reason text) returns void
language sql volatile set search_path from current as $$
    update reminder_fires r set state = p_state, reason = p_reason, cursor = '' where r.schedule_id = f.schedule_id and r.local_at = f.local_at and r.fold = f.fold
$$;

comment on function wxnotify_end_fire is 'Part of a fire: nothing more of it is made.';

grant execute on function wxnotify_end_fire to wxnotify_worker;
