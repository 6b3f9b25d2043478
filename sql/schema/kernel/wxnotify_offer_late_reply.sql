-- A reply that came after its lease was taken over. A success is stored as an event and weighed; a definite refusal ends
-- the doubt it caused, but never an older one. Returns whether it changed the row.
create or replace function wxnotify_offer_late_reply(
    p_appid text, p_id bigint, p_lease_id bigint, p_started_at timestamptz, p_worker text, p_sent boolean, p_dead boolean, p_errcode bigint,
    p_errmsg text, p_rid text, p_msgid bigint) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_row record;
begin
    perform wxnotify_need_read_committed();
    select p.appid, p.openid, p.template_id, p.attempts, p.in_doubt_since, p.last_lease into v_row from pending_notifications p where p.id = p_id;
    if not found then
        -- A history row with this very msgid: the reply was settled, and only the answer to that settle was lost.
        select h.appid, h.openid, h.template_id, h.attempts, null::timestamptz as in_doubt_since, null::bigint as last_lease
        into v_row from notification_history h where h.id = p_id and h.appid = p_appid and (p_msgid is null or h.msgid is distinct from p_msgid) limit 1;
    end if;
    if not found or v_row.appid <> p_appid then
        return false;
    end if;
    -- That it was not sent at all is worth a decision, but was no reply.
    if p_sent or p_errcode is not null then
        insert into notification_attempts (notification_id, appid, attempt, result, errcode, errmsg, rid, reason, started_at, worker, lease_id, finished_at)
        values (p_id, p_appid, v_row.attempts, 'late_reply', p_errcode, left(p_errmsg, 500), p_rid,
                'the reply came after the lease was taken over', p_started_at, p_worker, p_lease_id, clock_timestamp());
    end if;
    if p_sent then
        -- Without a msgid the reply cannot be told from another message's, so only the row's own doubt may use it.
        if p_msgid is null then
            return v_row.in_doubt_since = p_started_at and wxnotify_decide(p_appid, p_id, 'sent', 'late_reply');
        end if;
        insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at)
        values (p_appid, 'late_reply', v_row.openid, v_row.template_id, p_msgid, p_started_at) on conflict do nothing;
        return v_row.in_doubt_since is not null and v_row.in_doubt_since <= p_started_at
            and wxnotify_decide(p_appid, p_id, 'sent', 'late_reply', p_msgid);
    end if;
    -- Looked at again with the row locked: since the first look it may have been sent again and be in doubt for that.
    select p.in_doubt_since, p.last_lease into v_row from pending_notifications p where p.id = p_id for update skip locked;
    if not found or v_row.in_doubt_since is distinct from p_started_at or v_row.last_lease is distinct from p_lease_id then
        return false;
    end if;
    return wxnotify_decide(p_appid, p_id, case when p_dead then 'dead' else 'not_sent' end, 'late_reply', null, p_errcode, p_errmsg,
        case when p_dead then coalesce((select e.credit from wechat_errcodes e where e.errcode = p_errcode), 'unknown') end);
end $$;

comment on function wxnotify_offer_late_reply is 'Records a reply that came after its lease was taken over.';

grant execute on function wxnotify_offer_late_reply to wxnotify_worker;
