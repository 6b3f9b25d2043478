create or replace function cancel_notification(p_id bigint, p_note text default null) returns text
language sql volatile security definer set search_path from current as $$
    select c.result from cancel_notifications(array[p_id], true, p_note) c
$$;

comment on function cancel_notification is 'Cancels one row. Returns cancelled, unresolved (it was in doubt), in flight, busy, its final status, or not found.';

grant execute on function cancel_notification to wxnotify_operator;
