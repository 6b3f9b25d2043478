-- A row that has ended, locked by the caller, and that the database refuses to move to the history: it waits for the obstacle to go,
-- and is never sent meanwhile. Known as sent, it is a doubt on hold that keeps its msgid as evidence; dead, it has no attempt
-- left; expired, it is past its end. tidy tries again every ten minutes. What a person or a producer asked for is not put
-- off but answered.
create or replace function wxnotify_park_obstacle(
    p_appid text, p_id bigint, p_status text, p_settled_by text, p_worker text, p_errcode bigint, p_errmsg text, p_msgid bigint, p_said text) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_now     timestamptz := clock_timestamp();
    v_due     timestamptz := v_now + interval '10 minutes' * (0.75 + random() / 2);
    v_is_sent boolean := p_status in ('sent', 'presumed_sent');
    v_is_new  boolean;  -- not an obstacle before
    v_lease   notification_leases;
    v_row     pending_notifications;
begin
    if p_settled_by in ('operator', 'producer') or p_status = 'cancelled' then
        return;
    end if;
    select l.* into v_lease from notification_leases l where l.appid = p_appid and p_id = any (l.ids) limit 1;
    select p.waiting_for is distinct from 'obstacle' into v_is_new from pending_notifications p where p.id = p_id;
    update pending_notifications p
    set last_lease = coalesce(v_lease.lease_id, p.last_lease), waiting_for = 'obstacle', due = v_due,
        login_at = case when p.login_code is not null then v_due end,
        in_doubt_since = case when v_is_sent then coalesce(p.in_doubt_since, v_lease.started_at, v_now) when p_status <> 'dead' then p.in_doubt_since end,
        on_doubt = case when v_is_sent or p_status = 'unresolved' then 'hold' else p.on_doubt end,
        attempts = case when p_status in ('dead', 'unresolved') and p_settled_by in ('reply', 'late_reply') then greatest(p.attempts + 1, p.attempts_max)
                        when p_settled_by = 'reply' or v_is_sent and p.attempts = 0 then p.attempts + 1 else p.attempts end,
        last_errcode = case when v_is_sent then null else coalesce(p_errcode, p.last_errcode) end,
        last_errmsg = left('the database refuses to move it to the history: ' || p_said, 500), last_attempt_at = coalesce(p.last_attempt_at, v_now)
    where p.id = p_id
    returning p.* into v_row;
    if v_is_sent and v_is_new then
    begin
        insert into notification_attempts (notification_id, appid, attempt, result, errcode, errmsg, reason, started_at, worker, lease_id, finished_at)
        values (p_id, p_appid, v_row.attempts, 'sent', p_errcode, left(p_errmsg, 500), v_row.last_errmsg,
            coalesce(v_lease.started_at, v_row.in_doubt_since), p_worker, v_lease.lease_id, v_now);
        if p_msgid is not null then
            insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at)
            values (p_appid, 'late_reply', v_row.openid, v_row.template_id, p_msgid, coalesce(v_lease.started_at, v_row.in_doubt_since))
            on conflict do nothing;
        end if;
    exception when others then
        -- Others may refuse this, too: then it is a doubt without evidence.
        null;
    end;
    end if;
end $$;

comment on function wxnotify_park_obstacle is 'Puts off a row that has ended and that the database refuses to move to the history.';

grant execute on function wxnotify_park_obstacle to wxnotify_worker;
