-- One part of a running batch, in one transaction with what became of its rows, so that a crash repeats nothing. Two that step at once: the
-- second finds the batch locked and does nothing.
create or replace function step_batch(p_batch bigint, p_rows integer default 200) returns integer
language plpgsql volatile security definer set search_path from current as $$
declare
    v_batch operator_batches%rowtype;
    v_ids   bigint[];
    v_allow integer := least(p_rows, 1000);
begin
    select * into v_batch from operator_batches b where b.id = p_batch and b.state = 'running' for update skip locked;
    if not found then
        return 0;
    end if;
    if v_batch.pace_per_minute is not null then
        -- What was not used is lost: after a stop of the console no burst follows.
        v_allow := least(v_allow, floor(v_batch.pace_per_minute * extract(epoch from least(interval '5 seconds',
            clock_timestamp() - coalesce(v_batch.stepped_at, v_batch.started_at - interval '1 second'))) / 60 + 0.001));
        v_allow := case when v_allow > 0 then v_allow when clock_timestamp() - coalesce(v_batch.stepped_at, v_batch.started_at) >= interval '1 minute' / v_batch.pace_per_minute then 1 else 0 end;
    end if;
    v_ids := array(select r.id from operator_batch_rows r where r.batch_id = p_batch and r.result is null order by r.id limit v_allow);
    if v_ids = '{}' then
        if not exists (select from operator_batch_rows r where r.batch_id = p_batch and r.result is null) then
            update operator_batches b set state = 'done', ended_at = clock_timestamp() where b.id = p_batch;
        end if;
        return 0;
    end if;

    if v_batch.verb = 'redrive' then
        update operator_batch_rows r set result = d.result, new_id = d.new_id
        from redrive_notifications(v_ids, null, null, v_batch.note, jsonb_build_object('batch', p_batch)) d
        where r.batch_id = p_batch and r.id = d.id;
    elsif v_batch.verb = 'cancel' then
        update operator_batch_rows r set result = d.result
        from cancel_notifications(v_ids, false, v_batch.note, jsonb_build_object('batch', p_batch)) d
        where r.batch_id = p_batch and r.id = d.id;
    else
        update operator_batch_rows r set result = d.result
        from cancel_notifications(array(select n.new_id from operator_batch_rows n where n.batch_id = p_batch and n.id = any (v_ids)), false, v_batch.note,
            jsonb_build_object('batch', p_batch)) d
        where r.batch_id = p_batch and r.id = any (v_ids) and r.new_id = d.id;
        -- The old row may be redriven again.
        delete from notification_redrives x using operator_batch_rows r
        where r.batch_id = p_batch and r.id = any (v_ids) and r.result = 'cancelled' and x.redriven_id = r.id and x.new_id = r.new_id;
    end if;
    -- A verb tells of each row it was asked for; without this a row of which it does not would be asked for again for ever.
    update operator_batch_rows r set result = 'not found' where r.batch_id = p_batch and r.id = any (v_ids) and r.result is null;
    update operator_batches b set stepped_at = clock_timestamp() where b.id = p_batch;
    return cardinality(v_ids);
end $$;

comment on function step_batch is 'Does the next rows of a running batch, as many as its pace allows since the last ones; returns how many.';

grant execute on function step_batch to wxnotify_operator;
