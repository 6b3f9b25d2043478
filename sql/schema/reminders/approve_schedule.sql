-- Of the version as it is now: an edit needs another word.
create or replace function approve_schedule(p_id bigint, p_note text default null) returns boolean
language plpgsql volatile security definer set search_path from current as $$
begin
    perform wxnotify_need_schedule(p_id);
    update reminder_schedules s set approved_version = s.version where s.id = p_id and s.approved_version is distinct from s.version;
    if not found then
        return false;
    end if;
    perform wxnotify_record_action('approve_schedule', jsonb_build_object('schedule_id', p_id), 1, p_note);
    return true;
end $$;

comment on function approve_schedule is 'Approves a reminder, as it is now, for more users than wechat_apps.approve_above. An edit takes the approval away. False: it was approved.';

grant execute on function approve_schedule to wxnotify_operator;
