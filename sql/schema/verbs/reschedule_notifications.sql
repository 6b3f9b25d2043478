create or replace function reschedule_notifications(
    p_ids bigint[], p_send_at timestamptz, p_expire_at timestamptz default null, p_note text default null, p_filter jsonb default null)
returns table (id bigint, result text)
language plpgsql volatile security definer set search_path from current set gin_fuzzy_search_limit = 0 as $$
#variable_conflict use_column
declare
    v_ids     bigint[];
    v_states  text[];
    v_changed bigint[];
    v_send_at timestamptz := coalesce(p_send_at, clock_timestamp());
begin
    select array_agg(r.id), array_agg(r.state) into v_ids, v_states from wxnotify_lock_rows(p_ids) r;
    -- Without the workers' flag: the guard trigger computes due anew and frees the dedup key, as for a producer's UPDATE.
    with changed as (
        update pending_notifications p set send_at = v_send_at, expire_at = coalesce(p_expire_at, p.expire_at)
        where p.id = any (array(select u.id from unnest(v_ids, v_states) u (id, state) where u.state = 'free'))
          and coalesce(coalesce(p_expire_at, p.expire_at) > v_send_at, true)
        returning p.id)
    select coalesce(array_agg(c.id), '{}') into v_changed from changed c;
    perform wxnotify_record_action('reschedule',
        coalesce(p_filter, jsonb_build_object('ids', p_ids)) || jsonb_strip_nulls(jsonb_build_object('send_at', p_send_at, 'expire_at', p_expire_at)),
        cardinality(v_changed), p_note);
    return query select u.id, case when u.id = any (v_changed) then 'rescheduled' when u.state = 'free' then 'expires before send_at' else u.state end
                 from unnest(v_ids, v_states) u (id, state);
end $$;

comment on function reschedule_notifications is 'Moves rows to another send_at (null: now) and, if given, another expire_at; at most 1,000 a call. Rows in flight or in doubt are reported. A held row stays held.';

grant execute on function reschedule_notifications to wxnotify_operator;
