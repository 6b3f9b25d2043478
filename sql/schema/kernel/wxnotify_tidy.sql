-- Keeps the front of a lane clean, at most p_rows rows a call: past expire_at → expired (unresolved when in doubt), out of
-- attempts → dead (unresolved), and rows nobody can lease now get waiting_for and a later due, at most a poll of 10 minutes.
-- Where the front is full of rows that somebody else holds, it looks behind them.
create or replace function wxnotify_tidy(p_appid text, p_lane smallint, p_rows int default 1000) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
    set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_now      timestamptz;
    v_live     bigint[];
    v_busy     int[];
    v_paused   text[];
    v_refused  boolean;
    v_weighed  boolean;
    v_until    timestamptz;
    v_quiet    boolean := exists (select 1 from notification_quiet_hours h where h.appid = p_appid);
    v_errmsgs  text[];
    v_ids      bigint[];
    v_statuses text[];
    v_credits  text[];
    v_known    bigint[];  -- sent, and the database refused to move them
    v_parked   int;
    v_done     int := 0;
    v_behind   timestamptz := '-infinity';  -- where the next look begins
    v_id       bigint := 0;
begin
    perform wxnotify_need_read_committed();
    perform wxnotify_lock_app(p_appid);
    v_now := clock_timestamp();
    -- Null: the app sends; otherwise when to look again at rows of a paused or unknown app.
    select case when a.paused_until > v_now then least(a.paused_until, v_now + interval '10 minutes') end into v_until
    from wechat_apps a where a.appid = p_appid;
    if not found then
        v_until := v_now + interval '10 minutes';
    end if;
    select array_agg(x.id), array_agg(x.user_key) into v_live, v_busy
    from notification_leases l cross join lateral unnest(l.ids, l.user_keys) x (id, user_key) where l.appid = p_appid;
    select array_agg(t.template_id) into v_paused from wechat_templates t where t.appid = p_appid and t.paused_until > v_now;
    v_refused := exists (select 1 from wechat_refusals r where r.appid = p_appid);
    if v_refused then
        v_weighed := wxnotify_lift_refusals(p_appid, p_lane, v_now, p_rows);
    end if;
    -- Looked at without a lock: a busy front has nothing to tidy, and locking a thousand rows to learn that is dear. What is to change
    -- is locked, unless somebody changed it meanwhile; the app lock keeps leases away.
    while v_behind is not null loop
        with front as materialized (
            select p.ctid as tid, p.id, p.due, p.openid, p.template_id, p.kind, p.expire_at, p.in_doubt_since, p.on_doubt, p.attempts, p.attempts_max, p.waiting_for,
                   p.schedule_id, p.in_doubt_since is not null and wxnotify_reads_back(p.kind, p.extra) as reads_back, hashtext(p.openid) as user_key
            from pending_notifications p
            where p.appid = p_appid and p.lane = p_lane and p.due <= v_now and (p.due, p.id + 0) > (v_behind, v_id) and p.id not in (select unnest(v_live))
            order by p.due, p.id + 0 limit p_rows),
        judged as materialized (
            select front.*,
                case when waiting_for = 'obstacle' and in_doubt_since is not null and exists (
                          select 1 from notification_attempts a where a.notification_id = front.id and a.result = 'sent') then 'sent'
                     when expire_at <= v_now then case when in_doubt_since is null then 'expired' else 'unresolved' end
                     when reads_back then null
                     when in_doubt_since is not null and (on_doubt <> 'retry' or attempts >= attempts_max) then 'unresolved'
                     when attempts >= attempts_max then 'dead' end as final,
                row_number() over (partition by user_key order by due, id) as turn,
                template_id = any (v_paused) as template_paused,
                user_key in (select unnest(v_busy)) as user_busy,
                v_refused and in_doubt_since is null and wxnotify_can_be_refused(kind) and exists (
                    select 1 from wechat_refusals r
                    where r.appid = p_appid and r.openid = front.openid and r.template_id = front.template_id) as refused,
                (select min(d.due) from pending_notifications d
                 where d.appid = p_appid and d.openid = front.openid and d.template_id = front.template_id and d.in_doubt_since is not null
                   and d.waiting_for is distinct from 'obstacle'
                   and d.id <> front.id and (front.in_doubt_since is null or d.id < front.id)) as pair_due
            from front),
        wanted as materialized (
            select * from judged
            where final is not null or v_until is not null or template_paused or refused or user_busy or pair_due is not null or turn > 8),
        changing as materialized (
            select v.* from wanted v join pending_notifications p on p.ctid = v.tid
            where (p.due, p.template_id, p.attempts, p.attempts_max, p.expire_at, p.in_doubt_since)
                  is not distinct from (v.due, v.template_id, v.attempts, v.attempts_max, v.expire_at, v.in_doubt_since)
            for update of p skip locked),
        parked as (
            update pending_notifications p
            set waiting_for = case when v_until is not null then 'app' when v.template_paused then 'template' when v.refused then 'refused'
                                   when v.pair_due is not null then 'pair' else 'user' end,
                due = least(case when v.quiet_end is not null then v.quiet_end + random() * interval '2 minutes'
                                 when v_until is not null then greatest(v_until, v_now + interval '1 second') + random() * interval '2 seconds'
                                 when v.template_paused then v_now + interval '10 minutes' * (0.75 + random() / 2)
                                 when v.refused then v_now + case when v_weighed then interval '1 hour' else interval '5 seconds' end * (0.75 + random() / 2)
                                 when v.pair_due is not null then v_now + greatest(least(v.pair_due - v_now, interval '1 minute'), interval '1 second')
                                 else v_now + least(v.turn, 3000) * interval '200 milliseconds' end, p.expire_at)
            from (select c.*, case when v_quiet and (v_until is not null or c.template_paused)
                                   then wxnotify_row_quiet_end(p_appid, c.template_id, p_lane, c.schedule_id, greatest(v_until, v_now)) end as quiet_end
                  from changing c) v
            where p.ctid = v.tid and v.final is null
            returning 1)
        select (select count(*) from parked), (select array_agg(id) from changing where final <> 'sent'),
               (select array_agg(final) from changing where final <> 'sent'),
               (select array_agg(case when final = 'dead' then 'unknown' end) from changing where final <> 'sent'),
               (select array_agg(case when final = 'expired' and waiting_for = 'quiet' then 'quiet hours' end) from changing where final <> 'sent'),
               (select array_agg(id) from changing where final = 'sent'),
               case when (select count(*) from front) = p_rows and (select count(*) from wanted) > 2 * (select count(*) from changing)
                    then (select max(due) from front) end,
               (select max(id) from front where due = (select max(due) from front))
        into v_parked, v_ids, v_statuses, v_credits, v_errmsgs, v_known, v_behind, v_id;
        if v_known is not null then
            v_parked := v_parked + wxnotify_end_obstacles(p_appid, v_known);
        end if;
        if v_ids is not null then
            v_parked := v_parked + wxnotify_finish_carefully(p_appid, v_ids, v_statuses, 'policy', null, p_errmsgs => v_errmsgs, p_credits => v_credits);
        end if;
        v_done := v_done + v_parked;
        exit when clock_timestamp() > v_now + interval '1 second';
    end loop;
    return v_done;
end $$;

comment on function wxnotify_tidy is 'Ends expired and exhausted rows, parks what cannot be leased now.';

grant execute on function wxnotify_tidy to wxnotify_worker;
