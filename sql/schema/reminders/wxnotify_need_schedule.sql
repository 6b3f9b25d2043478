-- A producer that names another's schedule is told that there is none.
create or replace function wxnotify_need_schedule(p_id bigint) returns void
language plpgsql stable set search_path from current as $$
begin
    if not exists (select 1 from reminder_schedules s where s.id = p_id
                   and (s.producer = session_user or has_function_privilege(session_user, 'wxnotify_record_action(text, jsonb, bigint, text)', 'execute'))) then
        raise exception 'schedule % does not exist', coalesce(p_id::text, 'null')
            using errcode = 'no_data_found', hint = 'Look at the view reminders for the right one.';
    end if;
end $$;

comment on function wxnotify_need_schedule is 'Raises when a schedule does not exist, or is not the caller''s.';

grant execute on function wxnotify_need_schedule to wxnotify_worker;
