-- Applies what users said, at most p_rows events a call: notes refusals, pairs accepts. An accept without a row is looked at
-- again after as long as it has waited, at the end of its window, and given up after eight days. Returns how many were looked
-- at; 0 also while another worker is at it.
create or replace function wxnotify_apply_answers(p_hold boolean default false, p_window_secs float8 default 600, p_rows int default 500) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_ids   bigint[];
    v_pair  record;
    v_event wechat_events;
    v_again boolean;
begin
    perform wxnotify_need_read_committed();
    if not pg_try_advisory_xact_lock(20785, 0) then
        return 0;
    end if;
    v_ids := array(select e.id from wechat_events e where e.apply_at <= v_now and e.answer is not null order by e.apply_at limit p_rows);
    for v_pair in
        select distinct e.appid, e.openid, e.template_id from unnest(v_ids) u (id) join wechat_events e on e.id = u.id
        where e.applied_at is null order by 1, 2, 3
    loop
        perform wxnotify_weigh_pair(v_pair.appid, v_pair.openid, v_pair.template_id);
    end loop;
    for v_event in
        select e.* from unnest(v_ids) u (id) join wechat_events e on e.id = u.id order by e.occurred_at, e.id
    loop
        -- Only a pop-up is a tap; a change in the card's menu gives no credit.
        v_again := v_event.answer = 'accept' and v_event.event = 'subscribe_msg_popup_event'
                   and wxnotify_pair_accept(v_event, p_hold, p_window_secs);
        update wechat_events e
        set applied_at = coalesce(e.applied_at, v_now),
            apply_at = case when v_again and v_now - e.received_at < interval '8 days' then
                least(v_now + greatest(v_now - e.received_at, interval '1 second'),
                      case when e.occurred_at + make_interval(secs => p_window_secs) >= v_now
                           then e.occurred_at + make_interval(secs => p_window_secs) + interval '10 milliseconds' end) end
        where e.id = v_event.id;
    end loop;
    return cardinality(v_ids);
end $$;

comment on function wxnotify_apply_answers is 'Applies what users accepted and refused: notes refusals, pairs accepts with rows, makes held rows of unclaimed ones.';

grant execute on function wxnotify_apply_answers to wxnotify_worker;
