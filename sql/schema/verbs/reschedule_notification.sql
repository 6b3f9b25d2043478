create or replace function reschedule_notification(p_id bigint, p_send_at timestamptz, p_expire_at timestamptz default null, p_note text default null) returns text
language sql volatile security definer set search_path from current as $$
    select r.result from reschedule_notifications(array[p_id], p_send_at, p_expire_at, p_note) r
$$;

comment on function reschedule_notification is 'Moves one row to another send_at (null: now). Returns rescheduled, expires before send_at, in flight, in doubt, busy, its final status, or not found.';

grant execute on function reschedule_notification to wxnotify_operator;
