create or replace function stop_batch(p_batch bigint, p_note text default null) returns text
language plpgsql volatile security definer set search_path from current as $$
declare
    v_batch operator_batches%rowtype;
begin
    -- Waits for the part that is under way, so that nothing changes after the answer.
    select * into v_batch from operator_batches b where b.id = p_batch for update;
    if not found then
        return 'not found';
    elsif v_batch.state <> 'running' then
        return v_batch.state;
    end if;
    update operator_batches b set state = 'stopped', ended_at = clock_timestamp(), ended_by = wxnotify_actor() where b.id = p_batch;
    perform wxnotify_record_action('stop_batch', jsonb_build_object('batch', p_batch),
        (select count(*) from operator_batch_rows r where r.batch_id = p_batch and r.result is null), p_note);
    return 'stopped';
end $$;

comment on function stop_batch is 'Stops a running batch; the rows not done yet stay as they are. Answers stopped, or what it was already.';

grant execute on function stop_batch to wxnotify_operator;
