-- The operator knows, or decides, what no evidence settled. p_verdict: sent, not_sent (send it, nothing arrived) or retry
-- (send it although it may have arrived; the doubt stays on record, and the row ends with may_be_doubled).
create or replace function wxnotify_end_doubts(p_ids bigint[], p_verdict text, p_note text default null, p_filter jsonb default null)
returns table (id bigint, result text)
language plpgsql volatile security definer set search_path from current set gin_fuzzy_search_limit = 20784 as $$
#variable_conflict use_column
declare
    v_ids     bigint[];
    v_appids  text[];
    v_states  text[];
    v_at      int;
    v_changed bigint := 0;
begin
    if p_verdict is null or p_verdict not in ('sent', 'not_sent', 'retry') then
        raise exception 'verdict %: must be sent, not_sent or retry', coalesce(p_verdict, 'null');
    end if;
    select array_agg(r.id), array_agg(r.appid), array_agg(r.state) into v_ids, v_appids, v_states from wxnotify_lock_rows(p_ids) r;
    for v_at in 1..coalesce(cardinality(v_ids), 0) loop
        if v_states[v_at] = 'free' then
            v_states[v_at] := 'not in doubt';
        end if;
        continue when v_states[v_at] <> 'in doubt';
        if p_verdict = 'sent' then
            if wxnotify_finish_carefully(v_appids[v_at], array[v_ids[v_at]], array['sent'], 'operator', null) = 0 then
                v_states[v_at] := 'kept by the database';
                continue;
            end if;
        else
            update pending_notifications p
            set attempts_max = greatest(p.attempts_max, least(p.attempts + 1, 100)),   -- else the next tidy would end it unsent
                on_doubt = case p_verdict when 'retry' then 'retry' else p.on_doubt end,
                in_doubt_since = case p_verdict when 'retry' then p.in_doubt_since end,
                waiting_for = case p_verdict when 'retry' then 'doubt' end,
                due = wxnotify_next_due(p.held, p.send_at, p.expire_at)
            where p.id = v_ids[v_at];
        end if;
        v_states[v_at] := case p_verdict when 'sent' then 'confirmed sent' when 'not_sent' then 'confirmed not sent' else 'sent again' end;
        v_changed := v_changed + 1;
    end loop;
    if v_changed > 0 and p_verdict <> 'sent' then
        perform wxnotify_ring();
    end if;
    perform wxnotify_record_action(case p_verdict when 'sent' then 'confirm_sent' when 'not_sent' then 'confirm_not_sent' else 'retry_anyway' end,
        coalesce(p_filter, jsonb_build_object('ids', p_ids)), v_changed, p_note);
    return query select u.id, u.state from unnest(v_ids, v_states) u (id, state);
end $$;

comment on function wxnotify_end_doubts is 'Ends doubts by an operator''s word: sent, not_sent or retry; at most 1,000 a call.';

grant execute on function wxnotify_end_doubts to wxnotify_operator;
