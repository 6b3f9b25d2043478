create or replace function wxnotify_record_action(p_action text, p_filter jsonb, p_rows bigint, p_note text) returns void
language sql volatile security definer set search_path from current as $$
    insert into operator_actions (actor, action, filter, rows_changed, note)
    values (wxnotify_actor(), p_action, p_filter, p_rows, p_note)
$$;

comment on function wxnotify_record_action is 'Writes the audit row of an operator''s verb.';

grant execute on function wxnotify_record_action to wxnotify_operator;
