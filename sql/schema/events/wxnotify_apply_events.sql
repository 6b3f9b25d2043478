-- Records sent events, and failures of service cards, as receipts of their rows, at most p_rows a call. One whose row is not final yet, or not ours, is looked at
-- again after as long as it has waited, and given up after eight days: by then a doubt has ended too. Returns how many were looked at.
create or replace function wxnotify_apply_events(p_rows int default 500) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_ids   bigint[];
    v_found bigint[];
begin
    perform wxnotify_need_read_committed();
    v_ids := array(select e.id from wechat_events e where e.apply_at <= v_now and e.answer is null order by e.apply_at limit p_rows for update skip locked);
    if v_ids = '{}' then
        return 0;
    end if;
    -- The bound on finished_at keeps old partitions out: a row is final before its event, or soon after.
    v_found := array(
        select e.id from unnest(v_ids) u (id) join wechat_events e on e.id = u.id
        where exists (select 1 from notification_history h
                      where h.appid = e.appid and h.openid = e.openid and h.template_id = e.template_id and h.msgid = e.msgid
                        and h.finished_at >= e.occurred_at - interval '3 days'));
    -- Of two events about one message the later counts, whatever the order they are applied in.
    update notification_history h
    set receipt_at = r.occurred_at, receipt_code = r.error_code, receipt_status = r.error_status
    from (select distinct on (e.appid, e.openid, e.template_id, e.msgid) e.*
          from unnest(v_found) u (id) join wechat_events e on e.id = u.id
          order by e.appid, e.openid, e.template_id, e.msgid, e.occurred_at desc, e.id) r
    where h.appid = r.appid and h.openid = r.openid and h.template_id = r.template_id and h.msgid = r.msgid
      and h.finished_at >= r.occurred_at - interval '3 days'
      and (h.receipt_at is null or h.receipt_at < r.occurred_at);
    update wechat_apps a set first_receipt_at = v_now
    where a.first_receipt_at is null
      and a.appid in (select e.appid from unnest(v_found) u (id) join wechat_events e on e.id = u.id);
    v_found := v_found || wxnotify_apply_card_failures(v_ids);
    update wechat_events e
    set applied_at = case when e.id = any (v_found) then v_now end,
        apply_at = case when e.id <> all (v_found) and v_now - e.received_at < interval '8 days'
                        then v_now + greatest(v_now - e.received_at, interval '1 second') end
    where e.id = any (v_ids);
    return cardinality(v_ids);
end $$;

comment on function wxnotify_apply_events is 'Records WeChat''s sent events, and its failure events about service cards, as receipts of their notifications.';

grant execute on function wxnotify_apply_events to wxnotify_worker;
