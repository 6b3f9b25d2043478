create or replace function confirm_sent(p_id bigint, p_note text default null) returns text
language sql volatile security definer set search_path from current as $$ select d.result from wxnotify_end_doubts(array[p_id], 'sent', p_note) d $$;

comment on function confirm_sent is 'For a row in doubt: the user received it; it ends sent. Returns confirmed sent, not in doubt, in flight, busy, its final status, or not found.';

grant execute on function confirm_sent to wxnotify_operator;
