create or replace function retry_anyway(p_id bigint, p_note text default null) returns text
language sql volatile security definer set search_path from current as $$ select d.result from wxnotify_end_doubts(array[p_id], 'retry', p_note) d $$;

comment on function retry_anyway is 'For a row in doubt: send it now, although the user may receive it twice. Returns sent again, not in doubt, in flight, busy, its final status, or not found.';

grant execute on function retry_anyway to wxnotify_operator;
