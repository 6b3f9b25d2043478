-- Part of tidy: refusals of pairs at the front of a lane that an accept has ended meanwhile, by a row inserted later or by an
-- event that was not seen when the refusal was noted. False: what users said is being applied at this moment; look again soon.
create or replace function wxnotify_lift_refusals(p_appid text, p_lane smallint, p_now timestamptz, p_rows int) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    v_pair record;
begin
    if not pg_try_advisory_xact_lock(20785, 0) then
        return false;
    end if;
    for v_pair in
        select distinct f.openid, f.template_id
        from (select p.openid, p.template_id, p.kind, p.created_at, p.schedule_id from pending_notifications p
              where p.appid = p_appid and p.lane = p_lane and p.due <= p_now order by p.due, p.id + 0 limit p_rows) f
        join wechat_refusals r on r.appid = p_appid and r.openid = f.openid and r.template_id = f.template_id
        where (wxnotify_spends_credit(f.kind) and f.schedule_id is null and f.created_at >= r.refused_at + interval '1 second')
           or exists (select 1 from wechat_events e
                      where e.appid = p_appid and e.openid = f.openid and e.template_id = f.template_id and e.answer = 'accept'
                        and e.occurred_at >= r.refused_at + case r.said_by when '43101' then interval '0' else interval '1 second' end)
        order by 1, 2
    loop
        perform wxnotify_weigh_pair(p_appid, v_pair.openid, v_pair.template_id);
    end loop;
    return true;
end $$;

comment on function wxnotify_lift_refusals is 'Part of tidy: ends refusals that an accept has ended.';

grant execute on function wxnotify_lift_refusals to wxnotify_worker;
