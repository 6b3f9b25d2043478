create or replace function redrive_notification(p_id bigint, p_note text default null) returns bigint
language plpgsql volatile security definer set search_path from current as $$
declare
    v_redriven record;
begin
    select * into v_redriven from redrive_notifications(array[p_id], p_note => p_note);
    if coalesce(v_redriven.result not in ('redriven', 'redriven, but its credit was gone'), true) then
        raise exception 'notification % cannot be redriven: %', p_id, coalesce(v_redriven.result, 'not found')
            using hint = 'Only dead, unresolved, expired and cancelled notifications are redriven, each once: select * from explain_notification(id).';
    end if;
    if v_redriven.result <> 'redriven' then
        raise notice 'notification %: %', p_id, v_redriven.result
            using hint = 'It meets 43101 again unless the user gave a new credit.';
    end if;
    return v_redriven.new_id;
end $$;

comment on function redrive_notification is 'Inserts a new row from a dead, unresolved, expired or cancelled one and returns its id.';

grant execute on function redrive_notification to wxnotify_operator;
