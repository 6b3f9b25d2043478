create or replace function cancel_notifications(p_ids bigint[], p_doubts boolean default false, p_note text default null, p_filter jsonb default null)
returns table (id bigint, result text)
language plpgsql volatile security definer set search_path from current set gin_fuzzy_search_limit = 20784 as $$
#variable_conflict use_column
declare
    v_ids      bigint[];
    v_appids   text[];
    v_states   text[];
    v_appid    text;
    v_kept     bigint[];  -- still there, whatever the reason
    v_changed  bigint := 0;
begin
    select array_agg(r.id), array_agg(r.appid), array_agg(r.state) into v_ids, v_appids, v_states from wxnotify_lock_rows(p_ids) r;
    for v_appid in select distinct u.appid from unnest(v_appids, v_states) u (appid, state)
                   where u.state = 'free' or (p_doubts and u.state = 'in doubt') loop
        -- A row in doubt never ends cancelled: that would claim that nothing was sent.
        select v_changed + wxnotify_finish_carefully(v_appid, array_agg(u.id),
                   array_agg(case u.state when 'free' then 'cancelled' else 'unresolved' end), 'operator', null)
        into v_changed
        from unnest(v_ids, v_appids, v_states) u (id, appid, state)
        where u.appid = v_appid and (u.state = 'free' or (p_doubts and u.state = 'in doubt'));
    end loop;
    v_kept := array(select p.id from pending_notifications p where v_changed < cardinality(v_ids) and p.id = any (v_ids));
    perform wxnotify_record_action('cancel', coalesce(p_filter, jsonb_build_object('ids', p_ids)), v_changed, p_note);
    return query select u.id, case when u.id = any (v_kept) and (u.state = 'free' or u.state = 'in doubt' and p_doubts) then 'kept by the database'
                      when u.state = 'free' then 'cancelled' when u.state = 'in doubt' and p_doubts then 'unresolved' else u.state end
                 from unnest(v_ids, v_states) u (id, state);
end $$;

comment on function cancel_notifications is 'Cancels rows not yet final, at most 1,000 a call. Rows in flight are reported, not waited for; rows in doubt too, unless p_doubts: then they end unresolved.';

grant execute on function cancel_notifications to wxnotify_operator;
