-- Leases up to p_rows due rows of one (app, lane), after the watermark, for p_secs. THE CALLER HOLDS THE APP LOCK, taken in
-- an earlier statement. One user is in one lease at a time, with one row. A result with a null id is a marker: nothing was
-- leased, but losers of dedup keys were cleared out of the way; call again. p_start: the lease is started at once, for a
-- worker that has the slots free; that saves a commit.
create or replace function wxnotify_lease_locked(
    p_appid text, p_lane smallint, p_worker text, p_due timestamptz, p_id bigint, p_low_lease_id bigint, p_rows int, p_secs float8,
    p_start boolean)
returns setof wxnotify_leased
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_mergejoin = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v_now     timestamptz := clock_timestamp();
    v_live    bigint[];
    v_busy    int[];
    v_paused  text[];
    v_low     bigint;
    v_doubt   boolean;
    v_refused boolean;
    v_probing boolean;
    v_rows    tid[];
    v_ids     bigint[];
    v_users   int[];
    v_keyed   boolean;
    v_solo    boolean;
    v_made    bigint[];  -- those that reminders made: their start looks at more
    v_losers  bigint[];
    v_winners bigint[];
    v_lease   bigint;
begin
    select a.probing into v_probing from wechat_apps a where a.appid = p_appid and (a.paused_until is null or a.paused_until <= v_now);
    if not found then
        return;
    end if;
    select min(l.lease_id), array_agg(x.id), array_agg(x.user_key) into v_low, v_live, v_busy
    from notification_leases l cross join lateral unnest(l.ids, l.user_keys) x (id, user_key)
    where l.appid = p_appid and l.lease_id >= p_low_lease_id;
    if v_probing then
        if v_live is not null then
            return;
        end if;
        p_rows := 1;
    end if;
    select array_agg(t.template_id) into v_paused from wechat_templates t where t.appid = p_appid and t.paused_until > v_now;
    v_doubt := exists (select 1 from pending_notifications d where d.appid = p_appid and d.in_doubt_since is not null);
    v_refused := exists (select 1 from wechat_refusals r where r.appid = p_appid);

    select array_agg(c.ctid order by c.due, c.id), array_agg(c.id order by c.due, c.id), array_agg(c.user_key order by c.due, c.id),
           bool_or(c.dedup_key is not null), bool_or(c.rescues >= 1),
           array_agg(c.id) filter (where c.schedule_id is not null)
    into v_rows, v_ids, v_users, v_keyed, v_solo, v_made
    from (
        select p.ctid, p.id, p.due, p.dedup_key, p.rescues, p.schedule_id, hashtext(p.openid) as user_key
        from pending_notifications p
        where p.appid = p_appid and p.lane = p_lane and p.due <= v_now and (p.due, p.id + 0) > (p_due, p_id)
          and p.id not in (select unnest(v_live)) and hashtext(p.openid) not in (select unnest(v_busy))
          and (p.expire_at is null or p.expire_at > v_now) and (v_paused is null or p.template_id <> all (v_paused))
          and (p.attempts < p.attempts_max or p.in_doubt_since is not null and wxnotify_reads_back(p.kind, p.extra))
          -- While one row of a pair is in doubt nothing else goes to the pair; of several in doubt the oldest goes first. One that only
          -- the database keeps from ending holds up nobody.
          and (not v_doubt or not exists (
                select 1 from pending_notifications d
                where d.appid = p_appid and d.openid = p.openid and d.template_id = p.template_id and d.in_doubt_since is not null
                  and d.waiting_for is distinct from 'obstacle' and d.id <> p.id and (p.in_doubt_since is null or d.id < p.id)))
          and (p.in_doubt_since is null or ((p.on_doubt = 'retry' or wxnotify_reads_back(p.kind, p.extra))
                and not exists (select 1 from wxnotify_unowned_events(p_appid, p.openid, p.template_id, p.in_doubt_since))))
          -- What a user refuses waits for the next accept; tidy parks it. A doubt ends by its own policy.
          and (not v_refused or p.in_doubt_since is not null or not wxnotify_can_be_refused(p.kind) or not exists (
                select 1 from wechat_refusals r where r.appid = p_appid and r.openid = p.openid and r.template_id = p.template_id))
        order by p.due, p.id + 0 limit p_rows for update of p skip locked) c;
    if v_ids is null then
        return;
    end if;

    if v_keyed or v_solo or (select count(distinct u) < count(*) from unnest(v_users) u) then
        -- Keys are read first and only those not visible are inserted: a blind insert would wait for a producer's open
        -- cancel with the app lock held.
        with picked as materialized (
            select r.tid, r.id, r.user_key, r.n, p.dedup_key, p.rescues,
                   case when p.dedup_key is not null
                       then (select k.id from notification_keys k where k.appid = p_appid and k.dedup_key = p.dedup_key) end as winner,
                   row_number() over (partition by p.dedup_key order by r.n) as key_turn,
                   row_number() over (partition by p.rescues = 1 order by r.n) as rescue_turn
            from unnest(v_rows, v_ids, v_users) with ordinality r (tid, id, user_key, n)
            join pending_notifications p on p.ctid = r.tid),
        -- A row that was rescued twice ends the batch before it, or is the batch: it may be what kills workers. Of those that
        -- were rescued once one may be in a batch: two of them may be the killer and whom it has harmed before.
        solo as materialized (
            select min(n) filter (where rescues >= 2 or (rescues = 1 and rescue_turn > 1)) as at, min(n) as front from picked where winner is null or winner = id),
        chosen as (
            select distinct on (user_key) picked.* from picked, solo
            where (winner is null or winner = id) and (dedup_key is null or key_turn = 1 or winner = id)
              and (solo.at is null or n < solo.at or (solo.at = solo.front and n = solo.at))
            order by user_key, n),
        claimed as (
            insert into notification_keys (appid, dedup_key, id)
            select p_appid, dedup_key, id from chosen where dedup_key is not null and winner is null)
        select (select array_agg(tid order by n) from chosen), (select array_agg(id order by n) from chosen),
               (select array_agg(user_key order by n) from chosen),
               (select array_agg(id) from picked where winner <> id), (select array_agg(winner) from picked where winner <> id)
        into v_rows, v_ids, v_users, v_losers, v_winners;
        if v_losers is not null then
            perform wxnotify_lose_keys(p_appid, v_losers, v_winners);
        end if;
        if v_ids is null then
            return query select null::bigint, v_low, v_now, null::bigint, null::text, null::text, null::text, null::text, null::text, null::text,
                null::text, null::text, null::timestamptz, null::smallint, null::smallint, null::boolean, null::timestamptz, null::timestamptz,
                null::boolean, null::timestamptz;
            return;
        end if;
    end if;

    -- However idle the worker, such a lease is reserved and not started.
    if v_made is not null then
        v_made := array(select unnest(v_made) intersect select unnest(v_ids));
        if v_made <> '{}' then
            p_start := false;
        end if;
    end if;
    insert into notification_leases (appid, worker, ids, user_keys, leased_at, started_at, expires_at, reminder_ids)
    values (p_appid, p_worker, v_ids, v_users, v_now, case when p_start then v_now end, v_now + make_interval(secs => p_secs), nullif(v_made, '{}'))
    returning lease_id into v_lease;
    return query
        select v_lease, coalesce(v_low, v_lease), v_now, p.id, p.kind, p.openid, p.template_id, p.page, p.data::text, p.extra::text,
               p.miniprogram_state, p.lang, p.due, p.attempts, p.attempts_max, p.in_doubt_since is not null, p.expire_at,
               greatest(p.created_at, p.send_at), v_probing, case when p_start then v_now end
        from unnest(v_rows) with ordinality r (tid, n) join pending_notifications p on p.ctid = r.tid
        order by r.n;
end $$;

comment on function wxnotify_lease_locked is 'Leases due rows; the caller holds the app lock.';

grant execute on function wxnotify_lease_locked to wxnotify_worker;
