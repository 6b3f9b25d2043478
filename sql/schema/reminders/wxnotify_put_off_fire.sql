create or replace function wxnotify_put_off_fire(f reminder_fires, p_for interval) returns void
language sql volatile set search_path from current as $$
    update reminder_fires r set chunk_at = clock_timestamp() + p_for where r.schedule_id = f.schedule_id and r.local_at = f.local_at and r.fold = f.fold
$$;

comment on function wxnotify_put_off_fire is 'Part of a fire: its next chunk comes later.';

grant execute on function wxnotify_put_off_fire to wxnotify_worker;
