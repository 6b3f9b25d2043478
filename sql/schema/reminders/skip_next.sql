-- The time gets its row, as skipped: a time that has a row is never fired.
create or replace function skip_next(p_id bigint, p_note text default null) returns timestamp
language plpgsql volatile security definer set search_path from current as $$
declare
    v_next record;
begin
    perform wxnotify_need_schedule(p_id);
    select n.local_at, n.fold, n.fire_at into v_next from reminder_next(p_id, 1000) n where n.skipped is null order by n.fire_at limit 1;
    if not found then
        return null;
    end if;
    insert into reminder_fires (schedule_id, local_at, fold, fire_at, version, state, reason)
    select s.id, v_next.local_at, v_next.fold, v_next.fire_at, s.version, 'skipped', left('skipped by ' || session_user || coalesce(': ' || p_note, ''), 500)
    from reminder_schedules s where s.id = p_id
    on conflict do nothing;
    if not found then
        return null;
    end if;
    perform wxnotify_record_action('skip_next', jsonb_build_object('schedule_id', p_id, 'local_at', v_next.local_at), 1, p_note);
    return v_next.local_at;
end $$;

comment on function skip_next is 'Skips the next time of a reminder and returns it, in the schedule''s zone; null: none is known, or it was being made at this moment.';

grant execute on function skip_next to wxnotify_operator;
grant execute on function skip_next to wxnotify_producer;
