-- Records failure events of service cards among these events as the receipt of the last row that was sent for the code in
-- that state. WeChat writes the code with a prefix (p1.), hence the comparison of its end. Returns the events that found a row.
create or replace function wxnotify_apply_card_failures(p_ids bigint[]) returns bigint[]
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
    v_found bigint[];
begin
    with matched as materialized (
        select e.id, e.occurred_at, e.error_code, e.error_status,
               (select h.id from notification_history h
                where h.appid = e.appid and h.openid = e.openid and h.template_id = e.template_id and h.kind = 'service_card' and h.status = 'sent'
                  and h.finished_at >= e.occurred_at - interval '3 days'
                  and right(e.payload ->> 'notify_code', length(h.extra ->> 'notify_code')) = h.extra ->> 'notify_code'
                  and h.data ->> 'cur_status' = e.payload ->> 'card_status'
                order by h.finished_at desc limit 1) as row_id
        from unnest(p_ids) u (id) join wechat_events e on e.id = u.id
        where e.event = 'notify_service_msg_send_result'),
    received as (
        update notification_history h
        set receipt_at = m.occurred_at, receipt_code = m.error_code, receipt_status = m.error_status
        from (select distinct on (row_id) * from matched where row_id is not null order by row_id, occurred_at desc, id) m
        where h.id = m.row_id and h.finished_at >= m.occurred_at - interval '3 days' and (h.receipt_at is null or h.receipt_at < m.occurred_at))
    select array_agg(m.id) into v_found from matched m where m.row_id is not null;
    return coalesce(v_found, '{}');
end $$;

comment on function wxnotify_apply_card_failures is 'Part of wxnotify_apply_events: failure events of service cards.';

grant execute on function wxnotify_apply_card_failures to wxnotify_worker;
