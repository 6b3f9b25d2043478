-- The one place where events end doubts: after an event's commit, after a rescue, and now and then, since either may
-- have missed the other's uncommitted half. An unowned event belongs to the oldest row of its pair that may have been sent.
create or replace function wxnotify_weigh(p_appid text, p_rows int default 100) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_doubt record;
    v_msgid bigint;
    v_ended int := 0;
begin
    perform wxnotify_need_read_committed();
    if not exists (select 1 from wechat_events e where e.appid = p_appid and e.msgid is not null) then
        return 0;
    end if;
    for v_doubt in
        select p.id, p.openid, p.template_id, p.in_doubt_since, p.last_lease from pending_notifications p
        where p.appid = p_appid and p.in_doubt_since is not null and p.waiting_for is distinct from 'obstacle'
          -- First by the index alone: few doubts have any event.
          and exists (select 1 from wechat_events e
                      where e.appid = p.appid and e.openid = p.openid and e.template_id = p.template_id and e.msgid is not null
                        and e.occurred_at >= p.in_doubt_since - interval '5 seconds')
          and exists (select 1 from wxnotify_unowned_events(p_appid, p.openid, p.template_id, p.in_doubt_since))
          -- Looked at below as well, with the row locked; here, so that rows in flight do not fill the limit.
          and not exists (select 1 from notification_leases l where l.appid = p_appid and p.id = any (l.ids) and l.lease_id is distinct from p.last_lease)
        -- + 0: not a walk through the whole table in the order of ids.
        order by p.id + 0 limit p_rows for update skip locked
    loop
        continue when exists (select 1 from notification_leases l where l.appid = p_appid and v_doubt.id = any (l.ids)
                                and l.lease_id is distinct from v_doubt.last_lease);
        select u into v_msgid from wxnotify_unowned_events(p_appid, v_doubt.openid, v_doubt.template_id, v_doubt.in_doubt_since) u limit 1;
        if v_msgid is not null then
            v_ended := v_ended + wxnotify_finish_carefully(p_appid, array[v_doubt.id], array['sent'], 'event', null, p_msgids => array[v_msgid]);
        end if;
    end loop;
    return v_ended;
end $$;

comment on function wxnotify_weigh is 'Ends doubts by events.';

grant execute on function wxnotify_weigh to wxnotify_worker;
