create or replace function confirm_not_sent(p_id bigint, p_note text default null) returns text
language sql volatile security definer set search_path from current as $$ select d.result from wxnotify_end_doubts(array[p_id], 'not_sent', p_note) d $$;

comment on function confirm_not_sent is 'For a row in doubt: the user did not receive it; the doubt is over and it is sent. Returns confirmed not sent, not in doubt, in flight, busy, its final status, or not found.';

grant execute on function confirm_not_sent to wxnotify_operator;
