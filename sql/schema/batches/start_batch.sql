create or replace function start_batch(p_batch bigint, p_note text, p_pace_per_minute integer default null) returns text
language plpgsql volatile security definer set search_path from current as $$
declare
    v_batch operator_batches%rowtype;
begin
    select * into v_batch from operator_batches b where b.id = p_batch for update;
    if not found then
        return 'not found';
    elsif v_batch.state <> 'preview' then
        return v_batch.state;
    elsif v_batch.actor <> wxnotify_actor() then
        return 'previewed by ' || v_batch.actor;
    elsif v_batch.previewed_at < clock_timestamp() - interval '15 minutes' then
        return 'too old: preview it again';
    elsif coalesce(btrim(p_note), '') = '' then
        return 'needs a reason';
    end if;
    update operator_batches b
    set state = 'running', note = btrim(p_note), pace_per_minute = p_pace_per_minute, started_at = clock_timestamp()
    where b.id = p_batch;
    perform wxnotify_record_action('start_batch', v_batch.filter || jsonb_build_object('batch', p_batch, 'verb', v_batch.verb),
        (select count(*) from operator_batch_rows r where r.batch_id = p_batch and r.result is null), p_note);
    return 'running';
end $$;

comment on function start_batch is 'Starts a batch that the same person previewed at most 15 minutes ago, with a reason and a pace in rows a minute (null: as fast as it goes). Answers running, or why not. The console or wxnotify batch run does it.';

grant execute on function start_batch to wxnotify_operator;
