-- Part of tidy: tries again to end rows that are known to have been sent, locked by the caller, whose move to the history was refused.
-- Its msgid is that of the late reply to the attempt which is known.
create or replace function wxnotify_end_obstacles(p_appid text, p_ids bigint[]) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
    v_msgids bigint[];
begin
    select array_agg((
        select e.msgid from notification_attempts a join wechat_events e
            on e.appid = p.appid and e.openid = p.openid and e.template_id = p.template_id and e.event = 'late_reply' and e.occurred_at = a.started_at
        where a.notification_id = u.id and a.result = 'sent' and e.msgid is not null limit 1) order by u.n)
    into v_msgids
    from unnest(p_ids) with ordinality u (id, n) cross join lateral (
        select r.appid, r.openid, r.template_id from pending_notifications r where r.id = u.id limit 1) p;
    return wxnotify_finish_carefully(p_appid, p_ids, array_fill('sent'::text, array[cardinality(p_ids)]), 'late_reply', null, p_msgids => v_msgids);
end $$;

comment on function wxnotify_end_obstacles is 'Part of tidy: ends rows known as sent whose move to the history was refused.';

grant execute on function wxnotify_end_obstacles to wxnotify_worker;
