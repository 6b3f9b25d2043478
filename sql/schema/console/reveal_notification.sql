-- Receiver and message of one row, and the record that somebody asked.
create or replace function reveal_notification(p_id bigint, p_note text default null, out openid text, out data jsonb, out page text)
language plpgsql volatile security definer set search_path from current as $$
begin
    select n.openid, n.data, n.page into openid, data, page from notifications n where n.id = p_id;
    perform wxnotify_record_action('reveal', jsonb_build_object('id', p_id), 0, p_note);
end $$;

comment on function reveal_notification is 'Receiver and texts of a notification; that they were asked for is recorded in operator_actions.';

grant execute on function reveal_notification to wxnotify_operator;
