-- What operators read: the view notifications, explain_notification(id), and views for backlog, failures, dead letters,
-- doubts, workers, tokens and pauses. (Credits: 0010_credits.sql.)
--
-- The status of a row is not stored. It follows from the tables, and the first of these that holds is it:
-- sending, held, in_doubt, paused, retrying, scheduled, due. That order answers an operator's question: what is under way
-- comes first; a doubt needs evidence even while its app is paused; a pause explains a row better than its own waiting does.
--
-- The view has UNION ALL arms, each with one status as a constant, so that a filter on status drops the others at planning.
-- Every arm finds its rows by an index, but for scheduled: those are what the table is full of. What is due, or belongs to
-- a paused app, is found lane by lane (notification_lanes) in pick order; the ORDER BY in those arms sorts nothing, it
-- keeps the planner from joining the lanes to the whole table. The words of an errcode or a pause come by joins to unique
-- keys, which the planner leaves out where nobody reads them; a function called for each of 20,000 rows took a second.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Which row was sent anew from which final one. A table of its own: the hot table need not carry it.
create table notification_redrives (
    redriven_id bigint primary key,
    new_id      bigint not null unique,
    appid       text not null,
    at          timestamptz not null default clock_timestamp(),
    actor       text not null
);
comment on table notification_redrives is 'Redrives: the final row, which stays in notification_history, and the new row that was inserted from it.';
comment on column notification_redrives.redriven_id is 'The final row.';
comment on column notification_redrives.new_id is 'The row inserted from it.';
comment on column notification_redrives.appid is 'The mini-program.';
comment on column notification_redrives.at is 'When.';
comment on column notification_redrives.actor is 'Who.';

-- What WeChat's sent event said of a row, which comes after it is final (0009_events.sql).
alter table notification_history
    add column receipt_at timestamptz,
    add column receipt_code bigint,
    add column receipt_status text;
comment on column notification_history.receipt_at is 'When WeChat said what became of the message; null: it did not say (yet).';
comment on column notification_history.receipt_code is 'ErrorCode of WeChat''s sent event: 0 is delivered.';
comment on column notification_history.receipt_status is 'ErrorStatus of WeChat''s sent event: success, or what went wrong.';

-- Attempts are asked for by time (the last day's failures); they arrive in that order, so a few pages of BRIN serve.
create index on notification_attempts using brin (finished_at) with (autosummarize = on);
create index on notification_history using brin (finished_at) with (autosummarize = on);

-- For the statuses few rows have. A row that is inserted, sent and gone is in neither.
create index waiting on pending_notifications (waiting_for, due) where waiting_for is not null;
create index held on pending_notifications (appid, openid, template_id, id) where held;

-- A loose index scan: one probe a lane, however many rows each has. A function for the sake of its ROWS: the planner takes
-- a recursion for a hundred lanes, and what it then thinks the views cost sets off just-in-time compilation, which takes
-- longer than they do. SECURITY DEFINER, so that who may read the views needs no right to the tables.
create function wxnotify_lanes() returns table (appid text, lane smallint, front timestamptz, app_is_paused boolean)
language sql stable security definer rows 2 set search_path from current set enable_seqscan = off set enable_bitmapscan = off
    set enable_sort = off set jit = off as $$
    with recursive lanes as (
        (select p.appid, p.lane, p.due from pending_notifications p order by p.appid, p.lane, p.due limit 1)
        union all
        select n.appid, n.lane, n.due
        from lanes l
        cross join lateral (select p.appid, p.lane, p.due from pending_notifications p where (p.appid, p.lane) > (l.appid, l.lane)
                            order by p.appid, p.lane, p.due limit 1) n
    )
    select l.appid, l.lane, l.due,
           not exists (select from wechat_apps a
                       where a.appid = l.appid and (a.paused_until is null or a.paused_until <= statement_timestamp()))
    from lanes l
$$;
comment on function wxnotify_lanes is 'What the view notification_lanes shows.';

create view notification_lanes as
select l.appid, l.lane, l.front, l.app_is_paused from wxnotify_lanes() l;
comment on view notification_lanes is 'Mini-programs and lanes that have rows not yet final; wxnotify''s own.';
comment on column notification_lanes.appid is 'The mini-program.';
comment on column notification_lanes.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notification_lanes.front is 'When the first of its rows is or was due.';
comment on column notification_lanes.app_is_paused is 'The mini-program is paused or not registered.';

create view notifications_in_flight as
select p.id, p.appid, l.lease_id, l.worker, l.started_at, l.expires_at
from notification_leases l
cross join lateral unnest(l.ids) as leased (id)
-- a row that its lease has settled already, while the lease still holds others, is not in flight any more
join pending_notifications p on p.id = leased.id and p.last_lease is distinct from l.lease_id
where l.started_at is not null;
comment on view notifications_in_flight is 'Rows that may be on their way to WeChat: their lease is started and has not settled them.';
comment on column notifications_in_flight.id is 'The notification.';
comment on column notifications_in_flight.appid is 'The mini-program.';
comment on column notifications_in_flight.lease_id is 'The lease that holds it.';
comment on column notifications_in_flight.worker is 'Worker name and epoch.';
comment on column notifications_in_flight.started_at is 'The durable record before the first send of the lease.';
comment on column notifications_in_flight.expires_at is 'When the lease lapses: an unsettled row is in doubt then.';

-- The columns of `notifications` after status, reason and next_at, for rows not final; and the facts its arms ask for.
-- The facts are hashed sub-plans, built once per statement and arm: a join could become a nested loop on stale statistics.
create view notifications_pending as
select q.*, q.app_is_paused or q.template_is_paused or q.is_parked or q.is_refused as is_paused
from (
    select p.id, p.appid, p.openid, p.template_id, p.kind, p.page, p.data, p.lane, p.business_ref, p.dedup_key, p.send_at,
           p.expire_at, p.attempts, p.attempts_max, p.last_errcode as errcode, p.last_errmsg as errmsg, null::bigint as msgid,
           p.in_doubt_since, false as may_be_doubled, null::text as credit, null::bigint as duplicate_of, null::text as worker,
           null::text as settled_by, p.on_doubt, p.producer, p.last_attempt_at, p.created_at, null::timestamptz as finished_at,
           p.held, p.due, p.waiting_for, p.last_lease, p.extra,
           null::timestamptz as receipt_at, null::bigint as receipt_code, null::text as receipt_status, p.login_at, p.login_until,
           p.id in (select unnest(l.ids) from notification_leases l where l.started_at is not null)
           and (p.last_lease is null or (p.id, p.last_lease) not in (
                select x.id, l.lease_id from notification_leases l cross join lateral unnest(l.ids) x (id)
                where l.started_at is not null)) as is_sending,
           p.appid not in (select a.appid from wechat_apps a
                           where a.paused_until is null or a.paused_until <= statement_timestamp()) as app_is_paused,
           (p.appid, p.template_id) in (select t.appid, t.template_id from wechat_templates t
                                        where t.paused_until > statement_timestamp()) as template_is_paused,
           p.waiting_for is not null and p.waiting_for in ('app', 'template') and p.due > statement_timestamp() as is_parked,
           p.waiting_for is not null and p.waiting_for = 'refused' as is_refused
    from pending_notifications p) q;
comment on view notifications_pending is 'Rows not final, with the facts that decide their status; wxnotify''s own, read notifications instead.';

-- The same columns for final rows.
create view notifications_final as
select h.id, h.appid, h.openid, h.template_id, h.kind, h.page, h.data, h.lane, h.business_ref, h.dedup_key, h.send_at,
       h.expire_at, h.attempts, h.attempts_max, h.errcode, h.errmsg, h.msgid,
       h.in_doubt_since,
       -- Accepted after a doubt; or doubtful more than once, whatever proved that one of those sends arrived. Attempts
       -- before in_doubt_since do not count: their doubt was ended by a proof that nothing had arrived.
       case when h.in_doubt_since is null or h.status not in ('sent', 'presumed_sent') then false
            when h.status = 'sent' and h.settled_by = 'reply' then true
            else (select count(*) > 1 from notification_attempts a
                  where a.notification_id = h.id and a.result = 'doubt'
                    and coalesce(a.started_at, a.finished_at) >= h.in_doubt_since) end as may_be_doubled,
       h.credit, h.duplicate_of, h.worker,
       h.settled_by, h.on_doubt, h.producer, h.last_attempt_at, h.created_at, h.finished_at,
       h.held, h.status, h.receipt_at, h.receipt_code, h.receipt_status
from notification_history h;
comment on view notifications_final is 'Final rows in the shape of notifications; wxnotify''s own, read notifications instead.';

-- The errcode with its meaning, as one phrase; null when there is none to speak of.
create function wxnotify_errcode_in_words(p_errcode bigint, p_errmsg text, p_chinese boolean) returns text
language sql stable set search_path from current as $$
    select case
        when p_errcode is null then p_errmsg
        else coalesce(
            (select format('%s %s', e.errcode, case when p_chinese then e.meaning_zh else e.meaning_en end)
             from wechat_errcodes e where e.errcode = p_errcode),
            format(case when p_chinese then '%s（未收录的错误码）' else '%s (errcode not in the table)' end, p_errcode))
    end
$$;
comment on function wxnotify_errcode_in_words is 'An errcode with its meaning in English or Chinese; without an errcode the transport failure.';

-- What a person does about an errcode, by what wxnotify does about it.
create function wxnotify_advice(p_errcode bigint, p_disposition text, p_chinese boolean) returns text
language sql immutable set search_path from current as $$
    select case when p_chinese then zh else en end
    from (select
        case
            when p_errcode is null then 'Look at the network between the workers and api.weixin.qq.com; doubts: wxnotify doubt list.'
            when p_errcode = 43101 then 'Collect new credits in the mini-program: the user refused, or the credits are used up.'
            when p_disposition is null then 'Look the code up in WeChat''s documentation, then add it to wechat_errcodes.'
            when p_disposition = 'pause_app' then 'Mend the app''s settings or wait for its quota, then: wxnotify app resume.'
            when p_disposition = 'pause_template' then 'Check the template in WeChat''s console, then: wxnotify template resume.'
            when p_disposition = 'dead' then 'Correct the message or its receiver, then insert it anew or: wxnotify redrive.'
            else 'Nothing: wxnotify tries again by itself.' end as en,
        case
            when p_errcode is null then '检查 worker 到 api.weixin.qq.com 的网络；结果未知的消息见 wxnotify doubt list。'
            when p_errcode = 43101 then '在小程序内重新获取订阅授权：用户拒绝或次数已用尽。'
            when p_disposition is null then '在微信文档中查明该错误码，再加入 wechat_errcodes 表。'
            when p_disposition = 'pause_app' then '修正小程序配置或等待额度恢复，然后执行 wxnotify app resume。'
            when p_disposition = 'pause_template' then '在微信后台检查模板，然后执行 wxnotify template resume。'
            when p_disposition = 'dead' then '修正消息或接收人，再重新插入或执行 wxnotify redrive。'
            else '无需处理：wxnotify 会自动重试。' end as zh) advice
$$;
comment on function wxnotify_advice is 'What a person does about an errcode, in English or Chinese.';

create view notifications as
select n.id, n.appid, n.status, n.reason, n.next_at, n.openid, n.template_id, n.kind, n.page, n.data, n.lane,
       n.business_ref, n.dedup_key, n.send_at, n.expire_at, n.attempts, n.attempts_max, n.errcode, n.errmsg, n.msgid,
       n.in_doubt_since, n.may_be_doubled, n.credit, n.duplicate_of, n.worker, n.settled_by, n.on_doubt, n.producer,
       n.last_attempt_at, n.created_at, n.finished_at, n.receipt_at, n.receipt_code, n.receipt_status
from (
    select 'sending'::text as status, 'being sent'::text as reason, l.expires_at as next_at,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, l.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notification_leases l
    cross join lateral unnest(l.ids) as leased (id)
    join notifications_pending r on r.id = leased.id and r.last_lease is distinct from l.lease_id
    where l.started_at is not null

    union all
    select 'held', 'a held credit, sent only when armed', nullif(r.due, 'infinity'),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.held and not r.is_sending

    union all
    select 'in_doubt',
           case when r.kind = 'service_card' and not coalesce(r.extra ? 'ext_json', false) then 'a send may have arrived; WeChat is asked for the card''s state'
                else case r.on_doubt when 'hold' then 'a send may have arrived; waits for evidence or an operator'
                           else 'a send may have arrived; sent again when no evidence comes' end end,
           nullif(r.due, 'infinity'),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.in_doubt_since is not null and not r.held and not r.is_sending

    union all
    -- paused, 1: the app is unknown or paused
    select 'paused', case when a.appid is null then 'unknown app' else 'app paused: ' || coalesce(a.pause_reason, 'no reason given') end,
           nullif(least(r.expire_at, r.login_until, case when a.appid is null then 'infinity' else greatest(r.due, a.paused_until, t.paused_until) end), 'infinity'),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notification_lanes l
    cross join lateral (
        select q.* from notifications_pending q
        where q.appid = l.appid and q.lane = l.lane and q.in_doubt_since is null and not q.held and not q.is_sending
        order by q.due, q.id + 0) r
    left join wechat_apps a on a.appid = r.appid
    left join wechat_templates t on t.appid = r.appid and t.template_id = r.template_id
    where l.app_is_paused

    union all
    -- paused, 2: the template is paused. No index leads with the template: this reads the rows of its app.
    select 'paused', 'template paused: ' || coalesce(t.pause_reason, 'no reason given'),
           nullif(least(r.expire_at, greatest(nullif(r.due, 'infinity'), t.paused_until)), 'infinity'),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from wechat_templates t
    join notifications_pending r on r.appid = t.appid and r.template_id = t.template_id
    where t.paused_until > statement_timestamp()
      and not r.app_is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    -- paused, 3: the pause is over, the row waits out the delay it was parked with
    select 'paused', 'was paused; its turn comes at next_at', r.due,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.waiting_for in ('app', 'template') and r.due > statement_timestamp()
      and not r.app_is_paused and not r.template_is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    -- paused, 4: the user refuses the template
    select 'paused', 'the user refused this template' || coalesce(' at ' || to_char(f.refused_at, 'YYYY-MM-DD HH24:MI:SSOF'), '')
               || case f.said_by when '43101' then ' (43101)' else '' end,
           r.expire_at,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    left join wechat_refusals f on f.appid = r.appid and f.openid = r.openid and f.template_id = r.template_id
    where r.waiting_for = 'refused'
      and not r.app_is_paused and not r.template_is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    select 'retrying',
           case when r.errcode is not null then r.errcode || coalesce(' ' || e.meaning_en, ' (errcode not in the table)')
                else coalesce(r.errmsg, 'waits for its next attempt') end,
           r.due,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    left join wechat_errcodes e on e.errcode = r.errcode
    where r.waiting_for = 'retry' and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    -- scheduled, 1: next_at is due alone, so that a condition on it reaches the index
    select 'scheduled', 'not before send_at', r.due,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.waiting_for is null and r.due > statement_timestamp()
      and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    -- scheduled, 2: due now for its login code alone
    select 'scheduled', 'not before send_at; its login code is exchanged for the openid', least(r.expire_at, r.send_at),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where r.waiting_for = 'login' and r.send_at > statement_timestamp()
      and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    -- due, 1: behind another row, or parked for a pause that is over
    select 'due',
           case r.waiting_for
                when 'user' then 'an earlier message to this user is being sent'
                when 'pair' then 'an earlier message to this user from this template is in doubt'
                when 'login' then 'its login code is exchanged for the openid'
                when 'duplicate' then coalesce(
                    'waits for notification '
                    || (select k.id from notification_keys k where k.appid = r.appid and k.dedup_key = r.dedup_key)
                    || ' with the same dedup_key', 'its dedup_key is free again: takes its turn')
                else case when r.expire_at <= statement_timestamp() then 'expire_at has passed: about to end expired'
                          else 'waits for a worker' end end,
           coalesce(r.login_at, r.due),
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_pending r
    where (r.waiting_for in ('user', 'pair', 'duplicate') or (r.waiting_for in ('app', 'template') and r.due <= statement_timestamp())
           or (r.waiting_for = 'login' and coalesce(r.send_at <= statement_timestamp(), true)))
      and not r.is_paused and r.in_doubt_since is null and not r.held and not r.is_sending

    union all
    -- due, 2: waits for nothing but a worker
    select 'due',
           case when r.expire_at <= statement_timestamp() then 'expire_at has passed: about to end expired' else 'waits for a worker' end,
           r.due,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notification_lanes l
    cross join lateral (
        select q.* from notifications_pending q
        where q.appid = l.appid and q.lane = l.lane and q.due <= statement_timestamp()
          and q.waiting_for is null and not q.template_is_paused and q.in_doubt_since is null and not q.held and not q.is_sending
        order by q.due, q.id + 0) r
    where l.front <= statement_timestamp() and not l.app_is_paused

    union all
    select 'sent', case when r.kind = 'service_card' and r.receipt_at is not null
                      then 'accepted by WeChat, whose event then said that the push failed: ' || coalesce(r.receipt_status, r.receipt_code::text, 'no reason given')
                 when r.receipt_code <> 0
                      then 'accepted by WeChat, whose sent event then reported a failure: ' || coalesce(r.receipt_status, r.receipt_code::text)
                 when r.may_be_doubled and r.settled_by = 'reply'
                      then 'accepted by WeChat; an earlier send was in doubt, so it may have arrived twice'
                 when r.may_be_doubled then 'it arrived; more than one send was in doubt, so it may have arrived twice'
                 when r.settled_by = 'event' then 'WeChat''s sent event ended a doubt'
                 when r.settled_by = 'operator' then 'an operator confirmed that it was sent'
                 when r.settled_by = 'read_back' then 'WeChat shows the card in this state or a later one'
                 else 'accepted by WeChat' end, null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'sent'

    union all
    select 'presumed_sent', case when r.may_be_doubled
                      then '43101 after several doubts: the doubtful sends had spent the credit, so it may have arrived twice'
                      else '43101 after a doubt on the last credit: the doubtful send had spent it' end, null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, r.may_be_doubled,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'presumed_sent'

    union all
    select 'dead',
           case when r.errcode is not null then r.errcode || coalesce(' ' || e.meaning_en, ' (errcode not in the table)')
                else coalesce(r.errmsg, 'attempts used up') end,
           null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, false,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    left join wechat_errcodes e on e.errcode = r.errcode
    where r.status = 'dead'

    union all
    select 'expired', 'not sent before expire_at', null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, false,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'expired'

    union all
    select 'cancelled', case r.settled_by when 'operator' then 'cancelled by an operator'
                        when 'policy' then 'made of an accept whose own row came later' else 'cancelled by its producer' end, null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, false,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'cancelled'

    union all
    select 'duplicate', 'notification ' || r.duplicate_of || ' with the same dedup_key was sent instead', null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, false,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'duplicate'

    union all
    select 'unresolved', 'a send may have arrived; no evidence ever came', null,
           r.id, r.appid, r.openid, r.template_id, r.kind, r.page, r.data, r.lane, r.business_ref, r.dedup_key, r.send_at,
           r.expire_at, r.attempts, r.attempts_max, r.errcode, r.errmsg, r.msgid, r.in_doubt_since, false,
           r.credit, r.duplicate_of, r.worker, r.settled_by, r.on_doubt, r.producer, r.last_attempt_at, r.created_at,
           r.finished_at, r.receipt_at, r.receipt_code, r.receipt_status
    from notifications_final r
    where r.status = 'unresolved'
) n;
comment on view notifications is 'Every notification, pending and final, with its status: the operator''s contract. Filter by id, status, business_ref, or appid and openid.';
comment on column notifications.id is 'Kept for life.';
comment on column notifications.appid is 'The mini-program.';
comment on column notifications.status is 'Not final: held, scheduled, due, sending, retrying, in_doubt, paused. Final: sent, presumed_sent, dead, expired, cancelled, duplicate, unresolved.';
comment on column notifications.reason is 'Why it waits, or how it ended, in a short sentence.';
comment on column notifications.next_at is 'When something next happens to it; null: nothing by itself (final, or an operator must act).';
comment on column notifications.openid is 'The receiver.';
comment on column notifications.template_id is 'WeChat''s private template id.';
comment on column notifications.kind is 'one_time, long_term, device or service_card.';
comment on column notifications.page is 'Page that the card opens.';
comment on column notifications.data is 'The fields of the message.';
comment on column notifications.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notifications.business_ref is 'The business object.';
comment on column notifications.dedup_key is 'Of rows with one key one is sent.';
comment on column notifications.send_at is 'Not before.';
comment on column notifications.expire_at is 'Not after.';
comment on column notifications.attempts is 'Sends counted so far.';
comment on column notifications.attempts_max is 'Attempts before it is dead-lettered.';
comment on column notifications.errcode is 'WeChat''s last errcode.';
comment on column notifications.errmsg is 'WeChat''s last errmsg, or the transport failure.';
comment on column notifications.msgid is 'WeChat''s msgid of the accepted message.';
comment on column notifications.in_doubt_since is 'Beginning of the first send whose result is or was unknown.';
comment on column notifications.may_be_doubled is 'True: sent after an earlier send was in doubt, or in doubt more than once; the user may have received it twice.';
comment on column notifications.credit is 'For dead rows, what became of the user''s credit: kept, gone or unknown.';
comment on column notifications.duplicate_of is 'For duplicate: the id that was sent instead.';
comment on column notifications.worker is 'Worker name and epoch that sends it or ended it.';
comment on column notifications.settled_by is 'What ended it: reply, late_reply, event, policy, operator, producer, worker or read_back (WeChat shows the state of the service card).';
comment on column notifications.on_doubt is 'What a doubt leads to: retry or hold.';
comment on column notifications.producer is 'The database user that inserted or armed it.';
comment on column notifications.last_attempt_at is 'When the last attempt was settled.';
comment on column notifications.created_at is 'When it was inserted.';
comment on column notifications.finished_at is 'When it became final; null before.';
comment on column notifications.receipt_at is 'When WeChat''s event said what became of the message; null: it did not (yet).';
comment on column notifications.receipt_code is 'Its ErrorCode: 0 is delivered.';
comment on column notifications.receipt_status is 'Its ErrorStatus: success, or what went wrong.';
comment on column notifications_pending.id is 'Kept for life.';
comment on column notifications_pending.appid is 'The mini-program.';
comment on column notifications_pending.openid is 'The receiver.';
comment on column notifications_pending.template_id is 'WeChat''s private template id.';
comment on column notifications_pending.kind is 'one_time, long_term, device or service_card.';
comment on column notifications_pending.page is 'Page that the card opens.';
comment on column notifications_pending.data is 'The fields of the message.';
comment on column notifications_pending.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notifications_pending.business_ref is 'The business object.';
comment on column notifications_pending.dedup_key is 'Of rows with one key one is sent.';
comment on column notifications_pending.send_at is 'Not before.';
comment on column notifications_pending.expire_at is 'Not after.';
comment on column notifications_pending.attempts is 'Sends counted so far.';
comment on column notifications_pending.attempts_max is 'Attempts before it is dead-lettered.';
comment on column notifications_pending.errcode is 'WeChat''s last errcode.';
comment on column notifications_pending.errmsg is 'WeChat''s last errmsg, or the transport failure.';
comment on column notifications_pending.msgid is 'WeChat''s msgid of the accepted message.';
comment on column notifications_pending.in_doubt_since is 'Beginning of the first send whose result is or was unknown.';
comment on column notifications_pending.may_be_doubled is 'True: sent after an earlier send was in doubt, or in doubt more than once; the user may have received it twice.';
comment on column notifications_pending.credit is 'For dead rows, what became of the user''s credit: kept, gone or unknown.';
comment on column notifications_pending.duplicate_of is 'For duplicate: the id that was sent instead.';
comment on column notifications_pending.worker is 'Worker name and epoch that sends it or ended it.';
comment on column notifications_pending.settled_by is 'What ended it: reply, late_reply, event, policy, operator, producer, worker or read_back (WeChat shows the state of the service card).';
comment on column notifications_pending.on_doubt is 'What a doubt leads to: retry or hold.';
comment on column notifications_pending.producer is 'The database user that inserted or armed it.';
comment on column notifications_pending.last_attempt_at is 'When the last attempt was settled.';
comment on column notifications_pending.created_at is 'When it was inserted.';
comment on column notifications_pending.finished_at is 'When it became final; null before.';
comment on column notifications_pending.receipt_at is 'When WeChat''s event said what became of the message; null: it did not (yet).';
comment on column notifications_pending.receipt_code is 'Its ErrorCode: 0 is delivered.';
comment on column notifications_pending.receipt_status is 'Its ErrorStatus: success, or what went wrong.';
comment on column notifications_pending.held is 'True: a credit not armed.';
comment on column notifications_pending.due is 'The next moment something must happen.';
comment on column notifications_pending.waiting_for is 'Why it is not sent now.';
comment on column notifications_pending.last_lease is 'The lease that settled it last without ending it.';
comment on column notifications_pending.extra is 'What only one kind of message needs.';
comment on column notifications_pending.login_at is 'When its login code is exchanged next.';
comment on column notifications_pending.login_until is 'When its login code has expired.';
comment on column notifications_pending.app_is_paused is 'Its app is unknown or paused.';
comment on column notifications_pending.template_is_paused is 'Its template is paused.';
comment on column notifications_pending.is_parked is 'It waits out a delay it was given during a pause.';
comment on column notifications_pending.is_refused is 'Its user refuses its template.';
comment on column notifications_pending.is_sending is 'It is in flight.';
comment on column notifications_pending.is_paused is 'Its app is unknown or paused, or its template is paused, or it waits out such a pause, or its user refuses its template.';
comment on column notifications_final.id is 'Kept for life.';
comment on column notifications_final.appid is 'The mini-program.';
comment on column notifications_final.openid is 'The receiver.';
comment on column notifications_final.template_id is 'WeChat''s private template id.';
comment on column notifications_final.kind is 'one_time, long_term, device or service_card.';
comment on column notifications_final.page is 'Page that the card opens.';
comment on column notifications_final.data is 'The fields of the message.';
comment on column notifications_final.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notifications_final.business_ref is 'The business object.';
comment on column notifications_final.dedup_key is 'Of rows with one key one is sent.';
comment on column notifications_final.send_at is 'Not before.';
comment on column notifications_final.expire_at is 'Not after.';
comment on column notifications_final.attempts is 'Sends counted so far.';
comment on column notifications_final.attempts_max is 'Attempts before it is dead-lettered.';
comment on column notifications_final.errcode is 'WeChat''s last errcode.';
comment on column notifications_final.errmsg is 'WeChat''s last errmsg, or the transport failure.';
comment on column notifications_final.msgid is 'WeChat''s msgid of the accepted message.';
comment on column notifications_final.in_doubt_since is 'Beginning of the first send whose result is or was unknown.';
comment on column notifications_final.may_be_doubled is 'True: sent after an earlier send was in doubt, or in doubt more than once; the user may have received it twice.';
comment on column notifications_final.credit is 'For dead rows, what became of the user''s credit: kept, gone or unknown.';
comment on column notifications_final.duplicate_of is 'For duplicate: the id that was sent instead.';
comment on column notifications_final.worker is 'Worker name and epoch that sends it or ended it.';
comment on column notifications_final.settled_by is 'What ended it: reply, late_reply, event, policy, operator, producer, worker or read_back (WeChat shows the state of the service card).';
comment on column notifications_final.on_doubt is 'What a doubt leads to: retry or hold.';
comment on column notifications_final.producer is 'The database user that inserted or armed it.';
comment on column notifications_final.last_attempt_at is 'When the last attempt was settled.';
comment on column notifications_final.created_at is 'When it was inserted.';
comment on column notifications_final.finished_at is 'When it became final; null before.';
comment on column notifications_final.receipt_at is 'When WeChat''s event said what became of the message; null: it did not (yet).';
comment on column notifications_final.receipt_code is 'Its ErrorCode: 0 is delivered.';
comment on column notifications_final.receipt_status is 'Its ErrorStatus: success, or what went wrong.';
comment on column notifications_final.held is 'True: a credit not armed.';
comment on column notifications_final.status is 'How it ended.';

-- The whole story of one row; the events it tells of a doubt are those that wxnotify_unowned_events takes for evidence. STABLE, so that all of its statements read one snapshot: as several it once said "no such
-- row" while the row moved from one table to the other.
create function explain_notification(
    p_id bigint,
    out id bigint, out status text, out sentence text, out sentence_zh text, out what_next text, out what_next_zh text,
    out next_at timestamptz, out timeline jsonb
) language plpgsql stable set search_path from current set jit = off as $$
declare
    n            notifications%rowtype;
    v_doing      text;   -- the errcode or failure of the last attempt in words
    v_doing_zh   text;
    v_next       text;   -- next_at as people write it
    v_app        wechat_apps%rowtype;
    v_template   wechat_templates%rowtype;
    v_receipt    text;   -- what a sent event that is no success says
    v_which      record; -- which 43101 it was
    v_refused    record; -- the refusal that a row waits out
    v_new_id     bigint;
    v_old_id     bigint;
    v_form       constant text := 'YYYY-MM-DD HH24:MI:SSOF';
begin
    select * into n from notifications v where v.id = p_id;
    id := p_id;
    if n.id is null then
        status := 'not found';
        sentence := format('No notification has the id %s: it was never inserted, its transaction was rolled back, or retention has dropped it.', coalesce(p_id::text, 'null'));
        sentence_zh := format('没有编号为 %s 的通知：从未插入、所在事务已回滚，或已超过保留期被清除。', coalesce(p_id::text, 'null'));
        what_next := 'Look for it by its business object: select id, status, reason from notifications where business_ref = ''…''.';
        what_next_zh := '按业务对象查找：select id, status, reason from notifications where business_ref = ''…''。';
        timeline := '[]';
        return;
    end if;

    status := n.status;
    next_at := n.next_at;
    v_next := to_char(n.next_at, v_form);
    v_doing := wxnotify_errcode_in_words(n.errcode, n.errmsg, false);
    v_doing_zh := wxnotify_errcode_in_words(n.errcode, n.errmsg, true);
    select r.new_id into v_new_id from notification_redrives r where r.redriven_id = p_id;
    select r.redriven_id into v_old_id from notification_redrives r where r.new_id = p_id;
    select * into v_app from wechat_apps a where a.appid = n.appid;
    select * into v_template from wechat_templates t where t.appid = n.appid and t.template_id = n.template_id;

    case n.status
    when 'held' then
        sentence := 'A held credit: recorded, and sent only when it is armed.';
        sentence_zh := '预存的订阅次数：已登记，激活后才会发送。';
        what_next := 'Arm it with arm(appid, openid, template_id, data), or set held = false.'
                     || coalesce(' Unused, it ends expired at ' || v_next || '.', '');
        what_next_zh := '用 arm(appid, openid, template_id, data) 激活，或将 held 置为 false。' || coalesce('未使用则于 ' || v_next || ' 过期。', '');
    when 'scheduled' then
        sentence := format('Scheduled: not to be sent before %s.%s', to_char(n.send_at, v_form),
            case when n.openid is null then ' Its login code is exchanged for the openid before.' else '' end);
        sentence_zh := format('已排期：%s 之前不发送。%s', to_char(n.send_at, v_form), case when n.openid is null then '此前先用登录 code 换取 openid。' else '' end);
        what_next := case when n.next_at = n.expire_at then format('It ends expired at %s, before its send_at.', v_next)
                          else format('A worker sends it at %s.', v_next) end;
        what_next_zh := case when n.next_at = n.expire_at then format('expire_at 早于 send_at，将于 %s 过期。', v_next)
                             else format('到 %s 由 worker 发送。', v_next) end;
    when 'due' then
        sentence := format('Due since %s: %s.', v_next, n.reason);
        sentence_zh := format('自 %s 起待发送：%s。', v_next,
            case when n.reason like 'its login code%' then '正在用登录 code 换取 openid'
                 when n.reason like '%in doubt' then '同一用户同一模板的上一条消息结果未知'
                 when n.reason like 'an earlier%' then '同一用户的上一条消息正在发送'
                 when n.reason like 'waits for notification%' then '等待同一 dedup_key 的另一条通知'
                 when n.reason like 'expire_at%' then '已过 expire_at，即将过期'
                 else '等待 worker 领取' end);
        if n.next_at > statement_timestamp() then
            sentence := format('It waits: %s.', n.reason);
        end if;
        if not exists (select 1 from notification_workers_live w where n.appid = any (w.appids) or w.appids = '{}') then
            what_next := 'No live worker serves this app: start one with `wxnotify run` and the app''s secret in WXNOTIFY_APPSECRET_' || n.appid || '.';
            what_next_zh := '没有存活的 worker 服务该小程序：请配置 WXNOTIFY_APPSECRET_' || n.appid || ' 并运行 `wxnotify run`。';
        elsif n.openid is null then
            what_next := 'A worker exchanges the code at once; it is dead-lettered if that does not succeed while the code lives, 5 minutes.';
            what_next_zh := '由 worker 立即换取；若在 code 的 5 分钟有效期内未成功则进入死信。';
        elsif v_app.probing then
            what_next := 'Its app is being probed with one row after a pause; when that one succeeds the others follow.';
            what_next_zh := '该小程序暂停后正在用一条消息试探，成功后其余消息继续发送。';
        else
            what_next := 'A worker takes it when its turn comes' || case when n.next_at > statement_timestamp() then ', at ' || v_next || ' or sooner.' else '.' end;
            what_next_zh := '轮到时由 worker 发送' || case when n.next_at > statement_timestamp() then '，不晚于 ' || v_next || '。' else '。' end;
        end if;
    when 'sending' then
        sentence := format('Being sent by worker %s: attempt %s.', n.worker, n.attempts + 1);
        sentence_zh := format('worker %s 正在发送：第 %s 次尝试。', n.worker, n.attempts + 1);
        what_next := format('It is settled as soon as the reply comes. Without one it is in doubt after %s.', v_next);
        what_next_zh := format('收到回复后立即记录结果；若无回复，%s 之后结果记为未知（in_doubt）。', v_next);
    when 'retrying' then
        sentence := format('Attempt %s of %s failed: %s.', n.attempts, n.attempts_max, coalesce(v_doing, 'no details recorded'));
        sentence_zh := format('第 %s 次尝试（最多 %s 次）失败：%s。', n.attempts, n.attempts_max, coalesce(v_doing_zh, '无详细记录'));
        what_next := case when n.next_at = n.expire_at then format('It ends expired at %s, before another attempt.', v_next)
                          else format('Attempt %s follows at %s.', n.attempts + 1, v_next) end;
        what_next_zh := case when n.next_at = n.expire_at then format('下次尝试之前将于 %s 过期。', v_next)
                             else format('%s 进行第 %s 次尝试。', v_next, n.attempts + 1) end;
    when 'in_doubt' then
        sentence := format('In doubt: a send begun at %s may have reached the user, and its reply was lost.', to_char(n.in_doubt_since, v_form));
        sentence_zh := format('结果未知：%s 开始的发送可能已送达用户，但回复丢失。', to_char(n.in_doubt_since, v_form));
        if n.kind = 'service_card' and n.reason like '%WeChat is asked%' then
            what_next := format('WeChat is asked for the card''s state at %s: if it is there the row ends sent, else it is sent again.', v_next);
            what_next_zh := format('%s 向微信查询卡片状态：状态已存在则记为已发送，否则重新发送。', v_next);
        elsif n.on_doubt = 'hold' then
            what_next := 'It is not sent again by itself. If you know better: confirm_sent(id), confirm_not_sent(id) or retry_anyway(id).'
                         || coalesce(' Else it ends unresolved at ' || v_next || '.', '');
            what_next_zh := '不会自动重发。如已知结果：confirm_sent(id)、confirm_not_sent(id) 或 retry_anyway(id)。'
                            || coalesce('否则于 ' || v_next || ' 以 unresolved 结束。', '');
        elsif n.attempts >= n.attempts_max or n.next_at = n.expire_at then
            what_next := format('Evidence is awaited until %s; then it ends unresolved: no attempt or no time is left.', v_next);
            what_next_zh := format('等待证据至 %s；尝试次数或时间已用尽，届时以 unresolved 结束。', v_next);
        else
            what_next := format('Evidence is awaited until %s; without any it is sent again, and the user may receive it twice.', v_next);
            what_next_zh := format('等待证据至 %s；若无证据则重发，用户可能收到两次。', v_next);
        end if;
    when 'paused' then
        sentence := format('Paused: %s.', n.reason);
        select r.refused_at, r.said_by into v_refused from wechat_refusals r
        where r.appid = n.appid and r.openid = n.openid and r.template_id = n.template_id and n.reason like 'the user refused%';
        sentence_zh := case when v_app.appid is null then format('已暂停：小程序 %s 未登记。', n.appid)
                            when v_app.paused_until > statement_timestamp() then '已暂停：小程序暂停发送（' || coalesce(v_app.pause_reason, '未说明原因') || '）。'
                            when v_template.paused_until > statement_timestamp() and v_template.removed_at is not null and v_template.pause_errcode = 40037
                                then '已暂停：微信的模板列表中已没有该模板。'
                            when v_template.paused_until > statement_timestamp() then '已暂停：模板暂停发送（' || coalesce(v_template.pause_reason, '未说明原因') || '）。'
                            when n.reason like 'the user refused%' then format('已暂停：用户已拒绝该模板%s。', case v_refused.said_by
                                when 'popup' then format('（%s 在弹窗中拒绝）', to_char(v_refused.refused_at, v_form))
                                when 'change' then format('（%s 在消息菜单中关闭）', to_char(v_refused.refused_at, v_form))
                                when '43101' then format('（%s 的发送返回 43101）', to_char(v_refused.refused_at, v_form)) else '' end)
                            else '曾被暂停，等待轮到。' end;
        if n.reason like 'the user refused%' then
            what_next := 'It goes on with the user''s next accept: ask for it in the mini-program.';
            what_next_zh := '用户再次同意后继续发送：请在小程序内重新请求订阅。';
        elsif v_app.appid is null then
            what_next := format('Register the app: `wxnotify app add %s`.', n.appid);
            what_next_zh := format('登记小程序：`wxnotify app add %s`。', n.appid);
        elsif v_app.paused_until = 'infinity' then
            what_next := format('It waits for an operator: mend the cause, then `wxnotify app resume %s`.', n.appid);
            what_next_zh := format('等待运维处理：排除原因后执行 `wxnotify app resume %s`。', n.appid);
        elsif v_template.paused_until = 'infinity' and v_template.removed_at is not null and v_template.pause_errcode = 40037 then
            what_next := 'It goes on by itself if WeChat lists the template again (`wxnotify template sync`). A template that was added anew has another id, and this credit is not good for it: collect a new one, then cancel this row.';
            what_next_zh := '若微信重新列出该模板则自动恢复（`wxnotify template sync`）。重新添加的模板 ID 不同，此订阅次数不能用于新 ID：请重新获取授权后取消本条。';
        elsif v_template.paused_until = 'infinity' then
            what_next := format('It waits for an operator: mend the cause, then `wxnotify template resume %s %s`.', n.appid, n.template_id);
            what_next_zh := format('等待运维处理：排除原因后执行 `wxnotify template resume %s %s`。', n.appid, n.template_id);
        else
            what_next := format('It goes on by itself at %s.', v_next);
            what_next_zh := format('%s 自动恢复。', v_next);
        end if;
        if v_next is not null and n.next_at = n.expire_at then
            what_next := what_next || format(' Still paused at %s, it ends expired.', v_next);
            what_next_zh := what_next_zh || format('若 %s 仍未恢复则过期。', v_next);
        end if;
    when 'sent' then
        sentence := format('Sent at %s%s: %s.', to_char(n.finished_at, v_form), coalesce(' with msgid ' || n.msgid, ''), n.reason);
        sentence_zh := format('已于 %s 发送%s%s。', to_char(n.finished_at, v_form), coalesce('，msgid ' || n.msgid, ''),
            case when n.may_be_doubled and n.settled_by = 'reply' then '；此前一次发送结果未知，用户可能收到两次'
                 when n.may_be_doubled then '；不止一次发送结果未知，用户可能收到两次'
                 when n.settled_by = 'event' then '，由微信的送达事件确认'
                 when n.settled_by = 'operator' then '，由运维人员确认'
                 when n.settled_by = 'read_back' then '，微信上的卡片已处于该状态或之后的状态' else '，微信已接受' end);
        if n.kind = 'service_card' and n.receipt_at is not null then
            v_receipt := coalesce(n.receipt_status, n.receipt_code::text, 'unknown');
            sentence_zh := sentence_zh || format('微信 %s 的事件报告推送失败：%s。', to_char(n.receipt_at, v_form), v_receipt);
            what_next := 'It is not sent again by itself: mend the cause, then insert the state anew.';
            what_next_zh := '不会自动重发：排除原因后重新插入该状态。';
        elsif n.receipt_code = 0 then
            sentence := sentence || format(' WeChat''s sent event of %s confirmed it.', to_char(n.receipt_at, v_form));
            sentence_zh := sentence_zh || format('微信 %s 的回执确认已送达。', to_char(n.receipt_at, v_form));
        elsif n.receipt_at is not null then
            v_receipt := coalesce(n.receipt_status, n.receipt_code::text, 'unknown');
            sentence := sentence || format(' WeChat''s sent event of %s reported a failure: %s.', to_char(n.receipt_at, v_form), v_receipt);
            sentence_zh := sentence_zh || format('微信 %s 的回执报告失败：%s。', to_char(n.receipt_at, v_form), v_receipt);
            what_next := 'It is not sent again by itself: WeChat accepted it, so the credit is most likely spent.';
            what_next_zh := '不会自动重发：微信已接受该消息，订阅次数很可能已消耗。';
        end if;
    when 'presumed_sent' then
        sentence := format('Presumed sent: the retry of a send in doubt met 43101 at %s, so the doubtful send had spent the credit.', to_char(n.finished_at, v_form));
        sentence_zh := format('推定已发送：结果未知的发送在重试时于 %s 返回 43101，说明前一次已消耗该次数。', to_char(n.finished_at, v_form));
        if n.may_be_doubled then
            sentence := sentence || ' More than one send was in doubt, so the user may have received it twice.';
            sentence_zh := sentence_zh || '不止一次发送结果未知，用户可能收到两次。';
        end if;
    when 'dead' then
        sentence := format('Dead-lettered at %s after %s attempt(s)%s: %s.', to_char(n.finished_at, v_form), n.attempts,
            case n.settled_by when 'late_reply' then ', by a reply that came late' else '' end, coalesce(v_doing, 'attempts used up'));
        sentence_zh := format('已于 %s 进入死信，共尝试 %s 次%s：%s。', to_char(n.finished_at, v_form), n.attempts,
            case n.settled_by when 'late_reply' then '（迟到的回复）' else '' end, coalesce(v_doing_zh, '尝试次数用尽'));
        if n.errcode = 43101 and n.kind in ('one_time', 'long_term') then
            select w.* into v_which from wxnotify_which_43101(n.id) w;
            sentence := sentence || format(' Which 43101: %s, %s. %s', replace(v_which.which, '_', ' '), v_which.certainty, v_which.evidence);
            sentence_zh := sentence_zh || format('属于哪种 43101：%s（%s）。%s',
                case v_which.which when 'never_accepted' then '从未授权' when 'refused' then '用户已拒绝' when 'used_up' then '次数已用完' else '次数被其他系统用掉' end,
                case v_which.certainty when 'certain' then '确定' when 'likely' then '很可能' else '可能' end, v_which.evidence_zh);
        end if;
        if v_new_id is null and n.openid is null then
            what_next := 'Its receiver never became known: have the page call wx.login again and insert a new row with the fresh code.';
            what_next_zh := '始终未得到接收人：请页面重新调用 wx.login，并用新的 code 插入新行。';
        elsif v_new_id is null and n.kind in ('device', 'service_card') then
            what_next := 'Mend the cause, then insert a corrected row or `wxnotify redrive --id ' || n.id || '`.';
            what_next_zh := '排除原因后插入修正的行，或执行 `wxnotify redrive --id ' || n.id || '`。';
        elsif v_new_id is null then
            what_next := case n.credit
                when 'gone' then 'The user''s credit is gone: collect a new one in the mini-program; a redrive would meet 43101.'
                when 'kept' then 'WeChat most likely still holds the credit: mend the cause, then insert a corrected row or `wxnotify redrive --id ' || n.id || '`.'
                else 'Whether the credit still exists is unknown: mend the cause, then try `wxnotify redrive --id ' || n.id || '`.' end;
            what_next_zh := case n.credit
                when 'gone' then '用户的订阅次数已不存在：请在小程序内重新获取授权；直接重投会返回 43101。'
                when 'kept' then '微信很可能仍保留该次数：排除原因后插入修正的行，或执行 `wxnotify redrive --id ' || n.id || '`。'
                else '订阅次数是否仍在未知：排除原因后可执行 `wxnotify redrive --id ' || n.id || '`。' end;
        end if;
    when 'expired' then
        sentence := format('Expired: not sent before %s.%s', to_char(n.expire_at, v_form), case n.kind when 'one_time' then ' The credit was not spent.' else '' end);
        sentence_zh := format('已过期：%s 之前未能发送%s。', to_char(n.expire_at, v_form), case n.kind when 'one_time' then '，订阅次数未消耗' else '' end);
        if v_new_id is null and n.openid is not null then
            what_next := 'If it still matters: `wxnotify redrive --id ' || n.id || '` sends it without the old expire_at.';
            what_next_zh := '如仍需发送：`wxnotify redrive --id ' || n.id || '`（不再沿用旧的 expire_at）。';
        end if;
    when 'cancelled' then
        sentence := format('Cancelled at %s by %s.', to_char(n.finished_at, v_form), case n.settled_by when 'operator' then 'an operator'
            when 'policy' then 'wxnotify: it was made of an accept whose own row came later' else 'its producer' end);
        sentence_zh := format('已于 %s 由%s取消。', to_char(n.finished_at, v_form), case n.settled_by when 'operator' then '运维人员'
            when 'policy' then ' wxnotify（它由一次同意生成，而业务方自己的行后来才插入）' else '业务方' end);
    when 'duplicate' then
        sentence := format('Not sent: notification %s with the same dedup_key was sent instead.', n.duplicate_of);
        sentence_zh := format('未发送：同一 dedup_key 的通知 %s 已发送。', n.duplicate_of);
    when 'unresolved' then
        sentence := format('Unresolved at %s: a send begun at %s may have reached the user; no evidence ever came.', to_char(n.finished_at, v_form), to_char(n.in_doubt_since, v_form));
        sentence_zh := format('于 %s 以未决结束：%s 开始的发送可能已送达，始终没有证据。', to_char(n.finished_at, v_form), to_char(n.in_doubt_since, v_form));
        if v_new_id is null then
            what_next := 'Ask the user or the business system; `wxnotify redrive --id ' || n.id || '` sends it once more, perhaps a second time.';
            what_next_zh := '请向用户或业务系统核实；`wxnotify redrive --id ' || n.id || '` 会再发一次，用户可能收到两次。';
        end if;
    end case;
    if v_new_id is not null then
        what_next := format('It was redriven as notification %s: explain that one.', v_new_id);
        what_next_zh := format('已重投为通知 %s，请查看该条。', v_new_id);
    end if;
    what_next := coalesce(what_next, 'Nothing: this is final.');
    what_next_zh := coalesce(what_next_zh, '无：已是最终状态。');

    select coalesce(jsonb_agg(jsonb_strip_nulls(e.what) || jsonb_build_object('at', e.at) order by e.at, e.rank), '[]') into timeline
    from (
        select 0 as rank, n.created_at as at, jsonb_build_object('event', 'created', 'by', n.producer, 'redrive_of', v_old_id) as what
        union all
        select 1, n.send_at, jsonb_build_object('event', 'scheduled') where n.send_at > n.created_at
        union all
        select 2, l.leased_at, jsonb_build_object('event', 'leased', 'worker', l.worker, 'lease_id', l.lease_id)
        from notification_leases l where l.appid = n.appid and p_id = any (l.ids)
        union all
        select 3, l.started_at, jsonb_build_object('event', 'started', 'worker', l.worker, 'lease_id', l.lease_id)
        from notification_leases l where l.appid = n.appid and p_id = any (l.ids) and l.started_at is not null
        union all
        select 4, a.finished_at, jsonb_build_object('event', 'attempt', 'attempt', a.attempt, 'result', a.result, 'errcode', a.errcode,
            'errmsg', a.errmsg, 'meaning', wxnotify_errcode_in_words(a.errcode, null, false), 'meaning_zh', wxnotify_errcode_in_words(a.errcode, null, true),
            'reason', a.reason, 'http_status', a.http_status, 'rid', a.rid, 'response_ms', a.response_ms, 'worker', a.worker, 'started_at', a.started_at)
        from notification_attempts a where a.notification_id = p_id
        union all
        select 5, n.in_doubt_since, jsonb_build_object('event', 'in doubt') where n.in_doubt_since is not null
        union all
        select 6, w.occurred_at, jsonb_build_object('event', w.event, 'msgid', w.msgid::text, 'received_at', w.received_at)
        from wechat_events w
        where n.in_doubt_since is not null and w.appid = n.appid and w.openid = n.openid and w.template_id = n.template_id
          and w.msgid is not null and w.occurred_at >= n.in_doubt_since - case w.event when 'late_reply' then interval '0' else interval '5 seconds' end
        union all
        -- msgid as text: it exceeds 2^53, which JSON readers round
        select 8, n.finished_at, jsonb_build_object('event', 'ended', 'status', n.status, 'settled_by', n.settled_by, 'worker', n.worker,
            'msgid', n.msgid::text, 'duplicate_of', n.duplicate_of)
        where n.finished_at is not null
        union all
        -- WeChat's whole seconds may lie before our moment of settling; the receipt still comes after it
        select 9, greatest(n.receipt_at, n.finished_at), jsonb_build_object('event', 'receipt', 'dated', n.receipt_at, 'code', n.receipt_code, 'status', n.receipt_status)
        where n.receipt_at is not null
        union all
        select 10, r.at, jsonb_build_object('event', 'redriven', 'as', r.new_id, 'by', r.actor) from notification_redrives r where r.redriven_id = p_id
    ) e;
end $$;
comment on function explain_notification is 'One row that tells what happened to a notification, why, what happens next and when; in English and Chinese, with a timeline. An unknown id gets an answer too.';

-- Bounded: of each app and lane only the first 10,000 rows in pick order are looked at. Those are the ones that are late.
-- A function, since only a function can say jit = off: the planner's costs are high enough for just-in-time compilation,
-- and compiling took fifty times as long as the query. The SET also keeps it from being inlined into the view, where it
-- would be lost. SECURITY DEFINER, so that who may read the view needs no right to the tables.
create function wxnotify_backlog()
returns table (appid text, app text, lane smallint, status text, rows bigint, oldest_due timestamptz, more boolean)
language sql stable security definer set search_path from current set jit = off rows 20 as $$
    select l.appid, a.name as app, l.lane, s.status, count(*) as rows,
           min(s.due) filter (where s.status in ('due', 'retrying') and s.due <= statement_timestamp()) as oldest_due,
           max(max(s.place)) over (partition by l.appid, l.lane) >= 10000 as more
    from notification_lanes l
    left join wechat_apps a on a.appid = l.appid
    cross join lateral (
        select f.due, f.place,
               case when f.is_sending then 'sending'
                    when f.held then 'held'
                    when f.in_doubt_since is not null then 'in_doubt'
                    when f.is_paused then 'paused'
                    when f.waiting_for = 'retry' then 'retrying'
                    when f.waiting_for is null and f.due > statement_timestamp() or f.waiting_for = 'login' and f.send_at > statement_timestamp() then 'scheduled'
                    else 'due' end as status
        from (select r.*, row_number() over () as place
              from (select * from notifications_pending q where q.appid = l.appid and q.lane = l.lane order by q.due, q.id + 0 limit 10000) r) f
    ) s
    group by l.appid, a.name, l.lane, s.status
$$;
comment on function wxnotify_backlog is 'What the view notification_backlog shows.';

create view notification_backlog as
select b.appid, b.app, b.lane, b.status, b.rows, b.oldest_due, b.more from wxnotify_backlog() b;
comment on view notification_backlog is 'How many rows wait, by app, lane and status. Its cost is bounded: of each app and lane the 10,000 that are due first are counted.';
comment on column notification_backlog.appid is 'The mini-program.';
comment on column notification_backlog.app is 'Its name; null for an unknown app too.';
comment on column notification_backlog.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notification_backlog.status is 'As in notifications.';
comment on column notification_backlog.rows is 'How many of the rows looked at.';
comment on column notification_backlog.oldest_due is 'Since when the oldest of them has been due.';
comment on column notification_backlog.more is 'True: the app and lane may hold more rows than were looked at.';

create view notification_failures as
select a.appid, a.errcode, coalesce(e.meaning_en, case when a.errcode is null then 'no readable reply' else 'errcode not in the table' end) as meaning,
       coalesce(e.meaning_zh, case when a.errcode is null then '没有可读的回复' else '未收录的错误码' end) as meaning_zh,
       e.disposition, count(*) as attempts,
       count(*) filter (where a.result = 'dead') as dead, count(*) filter (where a.result = 'doubt') as doubts,
       min(a.finished_at) as first_at, max(a.finished_at) as last_at, coalesce(e.advice, wxnotify_advice(a.errcode, e.disposition, false)) as advice,
       wxnotify_advice(a.errcode, e.disposition, true) as advice_zh
from notification_attempts a
left join wechat_errcodes e on e.errcode = a.errcode
where a.finished_at > statement_timestamp() - interval '1 day' and a.result not in ('sent', 'presumed_sent')
group by a.appid, a.errcode, e.errcode;
comment on view notification_failures is 'Attempts of the last 24 hours that did not succeed, by app and errcode, with meaning and advice.';
comment on column notification_failures.appid is 'The mini-program.';
comment on column notification_failures.errcode is 'WeChat''s errcode; null when no readable reply came.';
comment on column notification_failures.meaning is 'What it means.';
comment on column notification_failures.meaning_zh is 'What it means, in Chinese.';
comment on column notification_failures.disposition is 'What wxnotify does about it.';
comment on column notification_failures.attempts is 'Attempts that met it.';
comment on column notification_failures.dead is 'Attempts that ended in the dead letters.';
comment on column notification_failures.doubts is 'Attempts that left a doubt.';
comment on column notification_failures.first_at is 'First of the day.';
comment on column notification_failures.last_at is 'Last of the day.';
comment on column notification_failures.advice is 'What to do.';
comment on column notification_failures.advice_zh is 'What to do, in Chinese.';

create view notification_dead_letters as
select h.id, h.appid, h.status, h.errcode,
       case when h.errcode is null then h.errmsg else h.errcode || coalesce(' ' || e.meaning_en, ' (errcode not in the table)') end as meaning,
       case when h.errcode is null then h.errmsg else h.errcode || coalesce(' ' || e.meaning_zh, '（未收录的错误码）') end as meaning_zh,
       h.errmsg, h.credit, h.attempts, h.openid, h.template_id,
       h.business_ref, h.created_at, h.finished_at, r.new_id as redriven_as
from notification_history h
left join wechat_errcodes e on e.errcode = h.errcode
left join notification_redrives r on r.redriven_id = h.id
where h.status in ('dead', 'unresolved');
comment on view notification_dead_letters is 'Notifications that ended dead or unresolved, with the reason and what became of the credit. The latest first: order by finished_at desc with one status at a time, which an index serves.';
comment on column notification_dead_letters.id is 'The notification.';
comment on column notification_dead_letters.appid is 'The mini-program.';
comment on column notification_dead_letters.status is 'dead or unresolved.';
comment on column notification_dead_letters.errcode is 'WeChat''s last errcode.';
comment on column notification_dead_letters.meaning is 'The errcode in words, or the transport failure.';
comment on column notification_dead_letters.meaning_zh is 'The same in Chinese.';
comment on column notification_dead_letters.errmsg is 'WeChat''s last errmsg.';
comment on column notification_dead_letters.credit is 'kept: a corrected copy can be sent; gone: collect a new one; unknown.';
comment on column notification_dead_letters.attempts is 'Sends counted.';
comment on column notification_dead_letters.openid is 'The receiver.';
comment on column notification_dead_letters.template_id is 'The template.';
comment on column notification_dead_letters.business_ref is 'The business object.';
comment on column notification_dead_letters.created_at is 'When it was inserted.';
comment on column notification_dead_letters.finished_at is 'When it ended.';
comment on column notification_dead_letters.redriven_as is 'The notification it was redriven as; null: it was not.';

create view notification_doubts as
select p.id, p.appid, p.openid, p.template_id, p.business_ref, p.in_doubt_since, statement_timestamp() - p.in_doubt_since as age,
       p.on_doubt, p.attempts, p.attempts_max, nullif(p.due, 'infinity') as next_at,
       p.is_sending,
       case when p.kind = 'service_card' and not coalesce(p.extra ? 'ext_json', false) then 'WeChat is asked for the card''s state: it ends sent, or is sent again'
            when p.on_doubt = 'hold' then 'waits for evidence or an operator, then ends unresolved'
            when p.attempts >= p.attempts_max then 'waits for evidence, then ends unresolved: attempts used up'
            else 'waits for evidence, then is sent again' end as what_next,
       (select count(*) from wechat_events e where e.appid = p.appid and e.openid = p.openid and e.template_id = p.template_id
          and e.msgid is not null 
          and e.occurred_at >= p.in_doubt_since - case e.event when 'late_reply' then interval '0' else interval '5 seconds' end) as events_since
from notifications_pending p
where p.in_doubt_since is not null;
comment on view notification_doubts is 'Notifications whose send may have arrived and whose reply was lost.';
comment on column notification_doubts.id is 'The notification.';
comment on column notification_doubts.appid is 'The mini-program.';
comment on column notification_doubts.openid is 'The receiver.';
comment on column notification_doubts.template_id is 'The template.';
comment on column notification_doubts.business_ref is 'The business object.';
comment on column notification_doubts.in_doubt_since is 'Beginning of the first send whose result is unknown.';
comment on column notification_doubts.age is 'Time since then.';
comment on column notification_doubts.on_doubt is 'retry or hold.';
comment on column notification_doubts.attempts is 'Sends counted.';
comment on column notification_doubts.attempts_max is 'Most sends.';
comment on column notification_doubts.next_at is 'Until when evidence is awaited.';
comment on column notification_doubts.is_sending is 'True while it is being sent again.';
comment on column notification_doubts.what_next is 'What happens then.';
comment on column notification_doubts.events_since is 'WeChat''s messages about this user and template since the doubt began: possible evidence.';

create view notification_workers_live as
select w.name, w.epoch, w.version, w.appids, w.started_at, w.heartbeat_at, statement_timestamp() - w.heartbeat_at as silent_for, w.in_flight
from notification_workers w
where w.stopped_at is null and w.heartbeat_at > statement_timestamp() - interval '1 minute';
comment on view notification_workers_live is 'Workers that gave a sign of life in the last minute and did not stop.';
comment on column notification_workers_live.name is 'WXNOTIFY_WORKER.';
comment on column notification_workers_live.epoch is 'Tells two starts of one name apart.';
comment on column notification_workers_live.version is 'Version of the program.';
comment on column notification_workers_live.appids is 'Mini-programs whose secret it has.';
comment on column notification_workers_live.started_at is 'When it started.';
comment on column notification_workers_live.heartbeat_at is 'Its last sign of life.';
comment on column notification_workers_live.silent_for is 'Time since then.';
comment on column notification_workers_live.in_flight is 'Sends in flight at that moment.';

create view wechat_tokens as
select t.appid, a.name as app, t.generation, t.expires_at, greatest(t.expires_at - statement_timestamp(), interval '0') as valid_for,
       t.fetched_at, t.refreshed_by, case when t.claimed_until > statement_timestamp() then t.claimed_by end as fetching, t.foreign_refreshes, t.last_foreign_at
from wechat_access_tokens t left join wechat_apps a on a.appid = t.appid;
comment on view wechat_tokens is 'State of each app''s access token, without the token.';
comment on column wechat_tokens.appid is 'The mini-program.';
comment on column wechat_tokens.app is 'Its name.';
comment on column wechat_tokens.generation is 'Grows with each replacement.';
comment on column wechat_tokens.expires_at is 'When it lapses; null: there is none.';
comment on column wechat_tokens.valid_for is 'Time left.';
comment on column wechat_tokens.fetched_at is 'When it was fetched.';
comment on column wechat_tokens.refreshed_by is 'The worker that fetched it.';
comment on column wechat_tokens.fetching is 'The worker that is fetching one now.';
comment on column wechat_tokens.foreign_refreshes is 'How often the token died early without us: another program refreshes it by force.';
comment on column wechat_tokens.last_foreign_at is 'When that was noticed last.';

create view notification_pauses as
select a.appid, a.name as app, null::text as template_id, nullif(a.paused_until, 'infinity') as paused_until, a.paused_until = 'infinity' as needs_operator,
       a.pause_reason as reason, a.pause_errcode as errcode, wxnotify_errcode_in_words(a.pause_errcode, null, false) as meaning,
       wxnotify_errcode_in_words(a.pause_errcode, null, true) as meaning_zh, 'wxnotify app resume ' || a.appid as resume_with
from wechat_apps a where a.paused_until > statement_timestamp()
union all
select t.appid, a.name, t.template_id, nullif(t.paused_until, 'infinity'), t.paused_until = 'infinity', t.pause_reason, t.pause_errcode,
       wxnotify_errcode_in_words(t.pause_errcode, null, false), wxnotify_errcode_in_words(t.pause_errcode, null, true),
       'wxnotify template resume ' || t.appid || ' ' || t.template_id
from wechat_templates t left join wechat_apps a on a.appid = t.appid where t.paused_until > statement_timestamp()
union all
select u.appid, null, null, null, true, 'unknown app', null, null, null, 'wxnotify app add ' || u.appid
from (select distinct l.appid from notification_lanes l) u where not exists (select 1 from wechat_apps a where a.appid = u.appid);
comment on view notification_pauses is 'Apps and templates that send nothing now: paused by an errcode, the breaker or an operator, or not registered.';
comment on column notification_pauses.appid is 'The mini-program.';
comment on column notification_pauses.app is 'Its name.';
comment on column notification_pauses.template_id is 'The template; null: the whole app.';
comment on column notification_pauses.paused_until is 'When it goes on by itself; null: when an operator acts.';
comment on column notification_pauses.needs_operator is 'True: it does not end by itself.';
comment on column notification_pauses.reason is 'Why.';
comment on column notification_pauses.errcode is 'The errcode that paused it.';
comment on column notification_pauses.meaning is 'What that means.';
comment on column notification_pauses.meaning_zh is 'What that means, in Chinese.';
comment on column notification_pauses.resume_with is 'The command that ends it.';

revoke execute on function wxnotify_errcode_in_words, wxnotify_advice, explain_notification, wxnotify_lanes, wxnotify_backlog from public;
