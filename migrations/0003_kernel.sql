-- The queue kernel: lease, start, settle, rescue, weigh, decide, tidy, and the way out, finish.
--
-- Lock order, the same everywhere: the app lock, then rows of pending_notifications, then a lease's insert; or a lease
-- row, then rows of pending_notifications. Nobody who holds rows waits: every lock on rows says SKIP LOCKED, and what
-- could not be had is reported or found again later. Every function needs READ COMMITTED: the app lock must be older
-- than the snapshot that reads the leases, hence lock and pick are two statements.
--
-- Plans are pinned per function: a plan cached while the table was empty would scan the whole table later. Where an index
-- on (appid, …) would do for a small table and not for a large one, rows are found by id alone (a lease's ids are of its
-- app), without a condition that a partial index is made for, and keys by a sub-select for each row, which no plan can turn
-- into a walk through all the keys of the app. Ids are looked up as "= any (an array)", or in a sub-select with a LIMIT and from
-- then on by ctid, and never joined: a join may put the table first, and read all of it. Picks are forbidden to sort, which
-- leaves them the index in pick order.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create function wxnotify_need_read_committed() returns void
language plpgsql volatile set search_path from current as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'wxnotify needs READ COMMITTED, this session uses %', upper(current_setting('transaction_isolation'))
            using hint = 'Look for ALTER DATABASE or ALTER ROLE … SET default_transaction_isolation.';
    end if;
end $$;

-- The app lock: whoever holds it is alone in leasing, tidying and un-parking rows of one mini-program.
create function wxnotify_lock_app(p_appid text) returns void
language plpgsql volatile set search_path from current as $$
begin
    perform pg_advisory_xact_lock(20784, hashtext(p_appid));
end $$;

-- Makes the losers of dedup keys due again, up to 50 of each that can be had; the others poll, since their due is finite.
create function wxnotify_wake_duplicates(p_appid text, p_keys text[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    with woken as (
        select d.id from unnest(p_keys) u (dedup_key) cross join lateral (
            select id from pending_notifications p
            where p.appid = p_appid and p.dedup_key = u.dedup_key and p.waiting_for = 'duplicate' limit 50 for update skip locked) d)
    update pending_notifications p set waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at)
    where p.id = any (array(select woken.id from woken));
    if found then
        perform wxnotify_ring();
    end if;
end $$;

-- Makes rows due again that waited for a doubt of their pair to end, as many as can be seen; the others look again within
-- a minute.
create function wxnotify_wake_pairs(p_appid text, p_openids text[], p_template_ids text[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    with woken as (
        select p.id from unnest(p_openids, p_template_ids) u (openid, template_id)
        join pending_notifications p on p.appid = p_appid and p.openid = u.openid and p.template_id = u.template_id
        where p.waiting_for = 'pair' limit 200 for update of p skip locked)
    update pending_notifications p set waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at)
    where p.id = any (array(select woken.id from woken));
    if found then
        perform wxnotify_ring();
    end if;
end $$;

-- The one way out: moves rows THE CALLER HAS LOCKED in an earlier statement to the history, in array order of p_ids, frees
-- their dedup keys (a sent row keeps its key for ever) and wakes those who waited for the key. Returns how many were moved.
-- Optional arrays may be null: the row's last known errcode and errmsg are then kept.
create function wxnotify_finish(
    p_appid text, p_ids bigint[], p_statuses text[], p_settled_by text, p_worker text,
    p_errcodes bigint[] default null, p_errmsgs text[] default null, p_msgids bigint[] default null, p_credits text[] default null,
    p_duplicate_of bigint[] default null, p_attempts smallint default 0) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_mergejoin = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_moved    int;
    v_keys     text[];
    v_ids      bigint[];
    v_msgids   bigint[];
    v_evidence int := 0;
    v_openids  text[];
    v_pairs    text[];
begin
    -- A doubt that would end without evidence: there may be some that nobody has weighed yet.
    if p_statuses && array['unresolved', 'presumed_sent'] then
        select array_agg(d.id), array_agg(d.msgid) into v_ids, v_msgids from (
            select distinct on (p.openid, p.template_id) p.id, e.msgid
            from unnest(p_ids, p_statuses) u (id, status)
            cross join lateral (
                select r.id, r.openid, r.template_id, r.in_doubt_since from pending_notifications r where r.id = u.id limit 1) p
            cross join lateral (
                select m.msgid from wxnotify_unowned_events(p_appid, p.openid, p.template_id, p.in_doubt_since) m (msgid) limit 1) e
            where u.status in ('unresolved', 'presumed_sent') and p.in_doubt_since is not null
            order by p.openid, p.template_id, p.id) d;
        if v_ids is not null then
            -- They are gone when the statement below looks for them.
            v_evidence := wxnotify_finish(p_appid, v_ids, array_fill('sent'::text, array[cardinality(v_ids)]), 'event', p_worker,
                p_msgids => v_msgids, p_attempts => p_attempts);
        end if;
    end if;
    with gone as (
        delete from pending_notifications p using (
            select l.tid, u.status, u.errcode, u.errmsg, u.msgid, u.credit, u.duplicate_of
            from unnest(p_ids, p_statuses, p_errcodes, p_errmsgs, p_msgids, p_credits, p_duplicate_of)
                as u (id, status, errcode, errmsg, msgid, credit, duplicate_of)
            cross join lateral (
                select r.ctid as tid from pending_notifications r where r.id = u.id limit 1) l) u
        where p.ctid = u.tid
        returning p.*, u.status, u.errcode, u.errmsg, u.msgid, u.credit, u.duplicate_of),
    kept as (
        insert into notification_history (id, appid, status, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at,
            held, expire_at, lane, dedup_key, business_ref, on_doubt, attempts_max, created_at, producer, attempts, in_doubt_since, errcode,
            errmsg, msgid, credit, duplicate_of, worker, settled_by, last_attempt_at, finished_at)
        select id, appid, status, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at,
            held, expire_at, lane, dedup_key, business_ref, on_doubt, attempts_max, created_at, producer, attempts + p_attempts, in_doubt_since,
            case when status <> 'sent' then coalesce(errcode, last_errcode) when p_settled_by = 'reply' then 0 else errcode end,
            case when status = 'sent' then errmsg else coalesce(errmsg, last_errmsg) end,
            msgid, credit, duplicate_of, p_worker, p_settled_by, last_attempt_at, clock_timestamp()
        from gone),
    freed as (
        delete from notification_keys f where f.ctid = any (array(
            select (select k.ctid from notification_keys k where k.appid = p_appid and k.dedup_key = gone.dedup_key and k.id = gone.id)
            from gone where gone.dedup_key is not null and gone.status not in ('sent', 'presumed_sent'))))
    select count(*), array_agg(dedup_key) filter (where dedup_key is not null and status <> 'duplicate'),
           array_agg(openid) filter (where in_doubt_since is not null), array_agg(template_id) filter (where in_doubt_since is not null)
    into v_moved, v_keys, v_openids, v_pairs from gone;
    if v_keys is not null then
        perform wxnotify_wake_duplicates(p_appid, v_keys);
    end if;
    if v_openids is not null then
        perform wxnotify_wake_pairs(p_appid, v_openids, v_pairs);
    end if;
    return v_moved + v_evidence;
end $$;

-- WeChat's events about a pair since a moment whose msgid belongs to no settled row: evidence nobody has used. WeChat dates
-- an event in whole seconds by its own clock, hence five seconds of grace; a late reply is dated by ours.
create function wxnotify_unowned_events(p_appid text, p_openid text, p_template_id text, p_since timestamptz) returns setof bigint
language sql stable set search_path from current as $$
    select e.msgid from wechat_events e
    where e.appid = p_appid and e.openid = p_openid and e.template_id = p_template_id and e.msgid is not null
      and e.occurred_at >= p_since - case e.event when 'late_reply' then interval '0' else interval '5 seconds' end
      and not exists (select 1 from notification_history h
                      where h.appid = p_appid and h.openid = p_openid and h.template_id = p_template_id
                        and (h.msgid = e.msgid
                             -- Within the grace an earlier row of the pair may have been doubtful, too, and ended by its second message:
                             -- then the event may tell of its first, which was sent before that end.
                             or h.in_doubt_since < p_since and h.finished_at <= p_since and e.occurred_at < p_since
                                and e.occurred_at <= h.finished_at + interval '5 seconds'))
    order by e.occurred_at
$$;

-- Rows that lost their dedup key, locked by the caller: while the winner is pending they wait (a finite while); when it
-- is gone and its key stands it was sent, and they end as duplicates.
create function wxnotify_lose_keys(p_appid text, p_ids bigint[], p_winners bigint[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_mergejoin = off set plan_cache_mode = force_generic_plan as $$
declare
    v_now       timestamptz := clock_timestamp();
    v_ids       bigint[];
    v_winners   bigint[];
begin
    select array_agg(u.id), array_agg(u.winner) into v_ids, v_winners
    from unnest(p_ids, p_winners) u (id, winner)
    cross join lateral (select r.dedup_key, r.in_doubt_since from pending_notifications r where r.id = u.id limit 1) p
    where (select k.id from notification_keys k where k.appid = p_appid and k.dedup_key = p.dedup_key) = u.winner
      and (select w.id from pending_notifications w where w.id = u.winner) is null
      and p.in_doubt_since is null;
    if v_ids is not null then
        perform wxnotify_finish(p_appid, v_ids, array_fill('duplicate'::text, array[cardinality(v_ids)]), 'worker', null, p_duplicate_of => v_winners);
    end if;
    -- Between a second and a minute, by the winner's own due time.
    update pending_notifications p
    set waiting_for = 'duplicate',
        due = least(v_now + greatest(least(least(u.at, v_now + interval '1 day') - v_now, '1 minute'), '1 second') * (0.75 + random() / 2), p.expire_at)
    from (select l.tid, (select w.due from pending_notifications w where w.id = u.winner) as at
          from unnest(p_ids, p_winners) u (id, winner)
          cross join lateral (select r.ctid as tid from pending_notifications r where r.id = u.id limit 1) l
          where v_ids is null or u.id <> all (v_ids)) u
    where p.ctid = u.tid;
end $$;

create type wxnotify_leased as (
    lease_id bigint, low_lease_id bigint, leased_at timestamptz, id bigint, kind text, openid text, template_id text, page text, data text,
    extra text, miniprogram_state text, lang text, due timestamptz, attempts smallint, attempts_max smallint,
    in_doubt boolean, expire_at timestamptz, waiting_since timestamptz, probe boolean, started_at timestamptz);

-- Whether WeChat can be asked if a send of the row arrived: the state of a service card can be read back, its ext fields
-- cannot. Such a doubt is settled by asking, whatever on_doubt says and however many attempts are left.
create function wxnotify_reads_back(p_kind text, p_extra jsonb) returns boolean
language sql immutable set search_path from current as $$
    select p_kind = 'service_card' and not coalesce(p_extra ? 'ext_json', false)
$$;

-- Leases up to p_rows due rows of one (app, lane), after the watermark, for p_secs. THE CALLER HOLDS THE APP LOCK, taken in
-- an earlier statement. One user is in one lease at a time, with one row. A result with a null id is a marker: nothing was
-- leased, but losers of dedup keys were cleared out of the way; call again. p_start: the lease is started at once, for a
-- worker that has the slots free; that saves a commit.
create function wxnotify_lease_locked(
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
           bool_or(c.dedup_key is not null), bool_or(c.rescues >= 1)
    into v_rows, v_ids, v_users, v_keyed, v_solo
    from (
        select p.ctid, p.id, p.due, p.dedup_key, p.rescues, hashtext(p.openid) as user_key
        from pending_notifications p
        where p.appid = p_appid and p.lane = p_lane and p.due <= v_now and (p.due, p.id + 0) > (p_due, p_id)
          and p.id not in (select unnest(v_live)) and hashtext(p.openid) not in (select unnest(v_busy))
          and (p.expire_at is null or p.expire_at > v_now) and (v_paused is null or p.template_id <> all (v_paused))
          and (p.attempts < p.attempts_max or p.in_doubt_since is not null and wxnotify_reads_back(p.kind, p.extra))
          -- While one row of a pair is in doubt nothing else goes to the pair; of several in doubt the oldest goes first.
          and (not v_doubt or not exists (
                select 1 from pending_notifications d
                where d.appid = p_appid and d.openid = p.openid and d.template_id = p.template_id and d.in_doubt_since is not null
                  and d.id <> p.id and (p.in_doubt_since is null or d.id < p.id)))
          and (p.in_doubt_since is null or ((p.on_doubt = 'retry' or wxnotify_reads_back(p.kind, p.extra))
                and not exists (select 1 from wxnotify_unowned_events(p_appid, p.openid, p.template_id, p.in_doubt_since))))
          -- What a user refuses waits for the next accept; tidy parks it. A doubt ends by its own policy.
          and (not v_refused or p.in_doubt_since is not null or p.kind not in ('one_time', 'long_term') or not exists (
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

    insert into notification_leases (appid, worker, ids, user_keys, leased_at, started_at, expires_at)
    values (p_appid, p_worker, v_ids, v_users, v_now, case when p_start then v_now end, v_now + make_interval(secs => p_secs))
    returning lease_id into v_lease;
    return query
        select v_lease, coalesce(v_low, v_lease), v_now, p.id, p.kind, p.openid, p.template_id, p.page, p.data::text, p.extra::text,
               p.miniprogram_state, p.lang, p.due, p.attempts, p.attempts_max, p.in_doubt_since is not null, p.expire_at,
               greatest(p.created_at, p.send_at), v_probing, case when p_start then v_now end
        from unnest(v_rows) with ordinality r (tid, n) join pending_notifications p on p.ctid = r.tid
        order by r.n;
end $$;

-- Leases of one (app, lane). An idle lane takes no lock. Always a statement of its own with a statement_timeout, so that
-- a stopped client cannot keep the app lock. A reservation may be lost in a crash of the server, hence need not wait for
-- the disk; a start must.
create function wxnotify_lease(
    p_appid text, p_lane smallint, p_worker text, p_due timestamptz, p_id bigint, p_low_lease_id bigint, p_rows int, p_secs float8,
    p_start boolean default false)
returns setof wxnotify_leased
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
    set plan_cache_mode = force_generic_plan as $$
declare
    v_now timestamptz := clock_timestamp();  -- a bound for the index; the function itself would filter row by row
begin
    perform wxnotify_need_read_committed();
    perform 1 from pending_notifications p
    where p.appid = p_appid and p.lane = p_lane and p.due <= v_now and (p.due, p.id + 0) > (p_due, p_id) order by p.due, p.id + 0 limit 1;
    if not found then
        return;
    end if;
    perform wxnotify_lock_app(p_appid);
    if not p_start then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    return query select * from wxnotify_lease_locked(p_appid, p_lane, p_worker, p_due, p_id, p_low_lease_id, p_rows, p_secs, p_start);
end $$;

-- Leases of several (app, lane) in one statement, up to p_rows of each and, but for the last, p_total in all; lanes behind that one
-- are not looked at. Each begins at a watermark of its own. An app that is busy elsewhere is passed over, so there is no lock
-- order to keep.
create function wxnotify_lease_many(
    p_appids text[], p_lanes smallint[], p_dues timestamptz[], p_ids bigint[], p_low_lease_ids bigint[], p_worker text, p_rows int, p_total int,
    p_secs float8, p_start boolean default false)
returns table (appid text, lane smallint, leased wxnotify_leased)
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v_lane  record;
    v_found int;
    v_total int := 0;
begin
    perform wxnotify_need_read_committed();
    if not p_start then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    for v_lane in
        select u.appid, u.lane, u.due, u.id, u.low from unnest(p_appids, p_lanes, p_dues, p_ids, p_low_lease_ids) u (appid, lane, due, id, low)
    loop
        if pg_try_advisory_xact_lock(20784, hashtext(v_lane.appid)) then
            return query select v_lane.appid, v_lane.lane, t::wxnotify_leased
                from wxnotify_lease_locked(v_lane.appid, v_lane.lane, p_worker, v_lane.due, v_lane.id, v_lane.low, p_rows, p_secs, p_start) t;
            get diagnostics v_found = row_count;
            v_total := v_total + v_found;
            exit when v_total >= p_total;
        end if;
    end loop;
end $$;

-- The first due time of every lane, by a loose index scan: one probe a lane however many rows it has.
create function wxnotify_fronts() returns table (appid text, lane smallint, due timestamptz)
language sql stable set search_path from current set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
    with recursive front as (
        (select p.appid, p.lane, p.due from pending_notifications p order by p.appid, p.lane, p.due limit 1)
        union all
        select n.* from front cross join lateral (
            select p.appid, p.lane, p.due from pending_notifications p where (p.appid, p.lane) > (front.appid, front.lane)
            order by p.appid, p.lane, p.due limit 1) n)
    select * from front
$$;

-- The lanes that have something due.
create function wxnotify_ready() returns table (appid text, lane smallint, due timestamptz)
language sql stable set search_path from current as $$
    select f.appid, f.lane, f.due from wxnotify_fronts() f where f.due <= clock_timestamp()
$$;

-- The durable record before a lease's first send, and later its renewal. Returns when it was made, or null: the lease is
-- gone, send nothing. p_leased_at tells a lease from another whose id was issued again after a crash of the server.
create function wxnotify_start(p_appid text, p_lease_id bigint, p_worker text, p_secs float8, p_leased_at timestamptz default null) returns timestamptz
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    v_started timestamptz;
begin
    update notification_leases
    set started_at = coalesce(started_at, clock_timestamp()), expires_at = clock_timestamp() + make_interval(secs => p_secs)
    where appid = p_appid and lease_id = p_lease_id and worker = p_worker and (p_leased_at is null or leased_at = p_leased_at)
    returning started_at into v_started;
    return v_started;
end $$;

-- The same for several leases in one commit. Those that are gone are left out of the answer.
create function wxnotify_start_many(p_appids text[], p_lease_ids bigint[], p_leased_at timestamptz[], p_worker text, p_secs float8)
returns table (lease_id bigint, started_at timestamptz)
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
    return query
        update notification_leases l
        set started_at = coalesce(l.started_at, clock_timestamp()), expires_at = clock_timestamp() + make_interval(secs => p_secs)
        from unnest(p_appids, p_lease_ids, p_leased_at) u (appid, lease_id, leased_at)
        where l.appid = u.appid and l.lease_id = u.lease_id and l.worker = p_worker and l.leased_at = u.leased_at
        returning l.lease_id, l.started_at;
end $$;

-- Gives back what was reserved and never started.
create function wxnotify_release(p_appid text, p_lease_id bigint, p_worker text) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
begin
    delete from notification_leases where appid = p_appid and lease_id = p_lease_id and worker = p_worker and started_at is null;
    if found then
        perform wxnotify_ring();
    end if;
    return found;
end $$;

-- Records outcomes of a lease's rows. p_sent_ids were accepted by WeChat; p_ids have any other verdict:
-- dead, expired, retry, park, doubt, release, or what asking for a service card's state brought: found or not_found. Idempotent: it touches only rows of the lease that it has not settled before.
-- Returns the ids of this call that are not settled (somebody else holds the row): call again with them. Null means
-- fenced: the lease is gone, or this was the repeat of a closing settle.
create function wxnotify_settle(
    p_appid text, p_lease_id bigint, p_worker text, p_close boolean, p_sent_ids bigint[], p_sent_msgids bigint[],
    p_ids bigint[], p_verdicts text[], p_delays_secs float8[], p_waiting_for text[], p_errcodes bigint[], p_errmsgs text[], p_rids text[],
    p_http_statuses smallint[], p_reasons text[], p_response_ms int[], p_credits text[],
    p_doubt_window_secs float8, p_doubt_age_secs float8) returns bigint[]
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_mergejoin = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_lease   notification_leases;
    v_ids     bigint[];
    v_msgids  bigint[];
    v_rest    bigint[] := '{}';
    v_settled int := 0;
begin
    perform wxnotify_need_read_committed();
    select * into v_lease from notification_leases
    where appid = p_appid and lease_id = p_lease_id and worker = p_worker for update;
    if not found then
        return null;
    end if;
    if cardinality(p_sent_ids) > 0 then
        select array_agg(c.id), array_agg(c.msgid) into v_ids, v_msgids from (
            select l.id, u.msgid from unnest(p_sent_ids, p_sent_msgids) u (id, msgid) cross join lateral (
                select p.id from pending_notifications p where p.id = u.id and p.last_lease is distinct from p_lease_id
                limit 1 for update skip locked) l
            where u.id = any (v_lease.ids)) c;
        if v_ids is not null then
            v_settled := wxnotify_finish(p_appid, v_ids, array_fill('sent'::text, array[cardinality(v_ids)]), 'reply', p_worker,
                p_msgids => v_msgids, p_attempts => 1::smallint);
        end if;
    end if;
    if p_verdicts && array['found', 'not_found'] then
        v_settled := v_settled + wxnotify_settle_read_backs(v_lease, p_ids, p_verdicts, p_errcodes, p_errmsgs, p_rids, p_http_statuses, p_reasons,
            p_response_ms);
    end if;
    if cardinality(p_ids) > 0 then
        v_settled := v_settled + wxnotify_settle_unsent(v_lease, p_ids, p_verdicts, p_delays_secs, p_waiting_for, p_errcodes, p_errmsgs, p_rids,
            p_http_statuses, p_reasons, p_response_ms, p_credits, p_doubt_window_secs, p_doubt_age_secs);
    end if;
    -- The look for stragglers can be left out only when this very call settled the whole lease.
    if v_settled < cardinality(v_lease.ids) then
        v_rest := array(select p.id from pending_notifications p where p.id = any (v_lease.ids) and p.last_lease is distinct from p_lease_id);
    end if;
    if p_close then
        if v_rest = '{}' then
            delete from notification_leases where appid = p_appid and lease_id = p_lease_id;
        elsif 2 * cardinality(v_rest) <= cardinality(v_lease.ids) then
            -- Only stragglers are left: let the other users go.
            update notification_leases
            set ids = v_rest, user_keys = array(select v_lease.user_keys[array_position(v_lease.ids, r)] from unnest(v_rest) r)
            where appid = p_appid and lease_id = p_lease_id;
        end if;
    end if;
    if v_rest = '{}' then
        return v_rest;
    end if;
    return array(select unnest(p_sent_ids || p_ids) intersect select unnest(v_rest));
end $$;

-- The same for several leases of one worker in one commit: of the flat arrays the first p_sent_counts[1] and p_counts[1] values
-- belong to the first lease, and so on. All lease rows are locked before any row, since nobody who holds rows waits. Values
-- that are refused fail the whole call: then settle each lease by itself.
create function wxnotify_settle_many(
    p_worker text, p_appids text[], p_lease_ids bigint[], p_closes boolean[], p_sent_counts int[], p_counts int[],
    p_sent_ids bigint[], p_sent_msgids bigint[], p_ids bigint[], p_verdicts text[], p_delays_secs float8[], p_waiting_for text[],
    p_errcodes bigint[], p_errmsgs text[], p_rids text[], p_http_statuses smallint[], p_reasons text[], p_response_ms int[], p_credits text[],
    p_doubt_window_secs float8, p_doubt_age_secs float8) returns table (settled_lease_id bigint, kept_back bigint[])
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
    set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_sent int := 0;  -- how many values belong to the leases before
    v_rest int := 0;
    v_s    int;
    v_r    int;
begin
    perform wxnotify_need_read_committed();
    perform 1 from unnest(p_appids, p_lease_ids) u (appid, lease_id)
        join notification_leases l on l.appid = u.appid and l.lease_id = u.lease_id and l.worker = p_worker
        order by l.appid, l.lease_id for update of l;
    for v_at in 1 .. cardinality(p_lease_ids) loop
        v_s := v_sent + p_sent_counts[v_at];
        v_r := v_rest + p_counts[v_at];
        settled_lease_id := p_lease_ids[v_at];
        kept_back := wxnotify_settle(p_appids[v_at], p_lease_ids[v_at], p_worker, p_closes[v_at],
            p_sent_ids[v_sent + 1 : v_s], p_sent_msgids[v_sent + 1 : v_s], p_ids[v_rest + 1 : v_r], p_verdicts[v_rest + 1 : v_r],
            p_delays_secs[v_rest + 1 : v_r], p_waiting_for[v_rest + 1 : v_r], p_errcodes[v_rest + 1 : v_r], p_errmsgs[v_rest + 1 : v_r],
            p_rids[v_rest + 1 : v_r], p_http_statuses[v_rest + 1 : v_r], p_reasons[v_rest + 1 : v_r], p_response_ms[v_rest + 1 : v_r],
            p_credits[v_rest + 1 : v_r], p_doubt_window_secs, p_doubt_age_secs);
        return next;
        v_sent := v_s;
        v_rest := v_r;
    end loop;
end $$;

-- The outcomes that are not plainly sent, of rows of a lease whose row the caller has locked. Returns how many were settled.
create function wxnotify_settle_unsent(
    p_lease notification_leases, p_ids bigint[], p_verdicts text[], p_delays_secs float8[], p_waiting_for text[], p_errcodes bigint[],
    p_errmsgs text[], p_rids text[], p_http_statuses smallint[], p_reasons text[], p_response_ms int[], p_credits text[],
    p_doubt_window_secs float8, p_doubt_age_secs float8) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_mergejoin = off
    set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_now      timestamptz := clock_timestamp();
    v_at       int[];
    v_ids      bigint[];
    v_rows     tid[];
    v_results  text[];
    v_final    bigint[];
    v_statuses text[];
    v_errcodes bigint[];
    v_errmsgs  text[];
    v_credits  text[];
    v_counted  int;
    v_settled  int := 0;
begin
    select array_agg(u.n), array_agg(l.id), array_agg(l.tid) into v_at, v_ids, v_rows
    from unnest(p_ids) with ordinality u (id, n) cross join lateral (
        select p.id, p.ctid as tid from pending_notifications p where p.id = u.id and p.last_lease is distinct from p_lease.lease_id
        limit 1 for update skip locked) l
    where u.id = any (p_lease.ids) and p_verdicts[u.n] not in ('found', 'not_found');
    if v_ids is null then
        return 0;
    end if;
    -- What each verdict means for its row. Doubt is sticky: after it, a row never ends as if nothing had been sent. A 43101 on
    -- the resend of a row in doubt says that the first send took the credit, if nothing else can have taken it.
    select array_agg(case
            when p_verdicts[u.n] = 'expired' then case when p.in_doubt_since is null then 'expired' else 'unresolved' end
            when p_verdicts[u.n] <> 'dead' then p_verdicts[u.n]
            when p.in_doubt_since is null then 'dead'
            when p_errcodes[u.n] is distinct from 43101 or p.kind <> 'one_time' then 'unresolved'
            -- A refusal explains the 43101 by itself.
            when exists (select 1 from wechat_refusals r
                         where r.appid = p.appid and r.openid = p.openid and r.template_id = p.template_id) then 'unresolved'
            when exists (select 1 from pending_notifications o
                         where o.appid = p.appid and o.openid = p.openid and o.template_id = p.template_id and o.id <> p.id) then 'unresolved'
            when exists (select 1 from notification_history h
                         where h.appid = p.appid and h.openid = p.openid and h.template_id = p.template_id
                           and h.status in ('sent', 'presumed_sent') and h.finished_at >= p.in_doubt_since) then 'unresolved'
            else 'presumed_sent' end order by u.o)
    into v_results
    from unnest(v_at, v_rows) with ordinality u (n, tid, o) join pending_notifications p on p.ctid = u.tid;

    insert into notification_attempts (notification_id, appid, attempt, result, errcode, errmsg, rid, http_status, reason, started_at, response_ms,
        worker, lease_id, finished_at)
    select u.id, p_lease.appid, p.attempts + (u.result <> 'park')::int, case u.result when 'unresolved' then 'dead' else u.result end,
        p_errcodes[u.n], left(p_errmsgs[u.n], 500), p_rids[u.n],
        p_http_statuses[u.n], left(p_reasons[u.n], 500), p_lease.started_at, p_response_ms[u.n], p_lease.worker, p_lease.lease_id, v_now
    from unnest(v_at, v_ids, v_rows, v_results) u (n, id, tid, result) join pending_notifications p on p.ctid = u.tid
    where u.result <> 'release' and p_verdicts[u.n] <> 'expired';

    for v_counted in 0..1 loop
        select array_agg(u.id), array_agg(u.result), array_agg(p_errcodes[u.n]), array_agg(left(coalesce(p_errmsgs[u.n], p_reasons[u.n]), 500)),
               array_agg(case when u.result = 'dead' then p_credits[u.n] end)
        into v_final, v_statuses, v_errcodes, v_errmsgs, v_credits
        from unnest(v_at, v_ids, v_results) u (n, id, result)
        where u.result not in ('retry', 'park', 'doubt', 'release') and (p_verdicts[u.n] <> 'expired')::int = v_counted;
        if v_final is not null then
            v_settled := v_settled + wxnotify_finish(p_lease.appid, v_final, v_statuses, case v_counted when 1 then 'reply' else 'worker' end, p_lease.worker,
                v_errcodes, v_errmsgs, null, v_credits, null, v_counted::smallint);
        end if;
    end loop;

    update pending_notifications p
    set last_lease = p_lease.lease_id,
        attempts = p.attempts + (u.result in ('retry', 'doubt'))::int,
        waiting_for = case u.result when 'release' then null when 'park' then p_waiting_for[u.n] else u.result end,
        in_doubt_since = case u.result when 'doubt' then coalesce(p.in_doubt_since, p_lease.started_at, v_now) else p.in_doubt_since end,
        due = case
            when u.result = 'release' then wxnotify_next_due(p.held, p.send_at, p.expire_at)
            when u.result = 'doubt' and wxnotify_reads_back(p.kind, p.extra)
                then least(v_now + make_interval(secs => least(p_doubt_window_secs, 5) * (1 + random() / 4)), p.expire_at)
            when u.result = 'doubt' and p.on_doubt = 'retry'
                then least(v_now + make_interval(secs => p_doubt_window_secs * (1 + random() / 4)), p.expire_at)
            when u.result = 'doubt'
                then least(coalesce(p.in_doubt_since, p_lease.started_at, v_now) + make_interval(secs => p_doubt_age_secs), p.expire_at)
            else least(v_now + make_interval(secs => p_delays_secs[u.n]), p.expire_at) end,
        last_errcode = case u.result when 'release' then p.last_errcode else p_errcodes[u.n] end,
        last_errmsg = case u.result when 'release' then p.last_errmsg else left(coalesce(p_errmsgs[u.n], p_reasons[u.n]), 500) end,
        last_attempt_at = case u.result when 'release' then p.last_attempt_at else v_now end
    -- Looked up anew: to finish the others may have woken this one.
    from unnest(v_at, v_ids, v_results) u (n, id, result)
    cross join lateral (select r.ctid as tid from pending_notifications r where r.id = u.id limit 1) l
    where p.ctid = l.tid and u.result in ('retry', 'park', 'doubt', 'release');
    get diagnostics v_counted = row_count;
    if 'refused' = any (p_waiting_for) then
        perform wxnotify_note_43101(p_lease.appid, p_lease.started_at, array(
            select u.id from unnest(v_at, v_ids, v_results) u (n, id, result) where u.result = 'park' and p_waiting_for[u.n] = 'refused'));
    end if;
    return v_settled + v_counted;
end $$;

-- Takes over leases whose worker is gone. Never started: nothing was sent, the rows are simply due. Started: what was not
-- settled may have been sent and is in doubt since the start. Any worker may call it at any time; its own leases p_known, whose
-- outcomes it holds, are left alone. Returns the rows put in doubt.
create function wxnotify_rescue(p_doubt_window_secs float8, p_doubt_age_secs float8, p_worker text default null, p_known bigint[] default '{}')
returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_lease   notification_leases;
    v_ids     bigint[];
    v_rest    bigint[];
    v_rescued int := 0;
begin
    perform wxnotify_need_read_committed();
    for v_lease in
        select * from notification_leases
        where expires_at < clock_timestamp() and not (worker is not distinct from p_worker and lease_id = any (p_known))
        limit 20 for update skip locked
    loop
        if v_lease.started_at is null then
            delete from notification_leases where appid = v_lease.appid and lease_id = v_lease.lease_id;
            perform wxnotify_ring();
            continue;
        end if;
        v_ids := array(
            select p.id from pending_notifications p
            where p.id = any (v_lease.ids) and p.last_lease is distinct from v_lease.lease_id for update skip locked);
        insert into notification_attempts (notification_id, appid, attempt, result, reason, started_at, worker, lease_id, finished_at)
        select p.id, p.appid, p.attempts + 1, 'doubt', 'the worker vanished after it began to send', v_lease.started_at, v_lease.worker,
            v_lease.lease_id, clock_timestamp()
        from pending_notifications p where p.id = any (v_ids);
        update pending_notifications p
        set in_doubt_since = coalesce(p.in_doubt_since, v_lease.started_at), attempts = p.attempts + 1, rescues = p.rescues + 1,
            waiting_for = 'doubt', last_lease = v_lease.lease_id, last_errcode = null,
            last_errmsg = 'the worker vanished after it began to send', last_attempt_at = clock_timestamp(),
            due = least(case when wxnotify_reads_back(p.kind, p.extra)
                    then clock_timestamp() + make_interval(secs => least(p_doubt_window_secs, 5) * (1 + random() / 4))
                when p.on_doubt = 'retry'
                    then clock_timestamp() + make_interval(secs => p_doubt_window_secs * (1 + random() / 4))
                    else coalesce(p.in_doubt_since, v_lease.started_at) + make_interval(secs => p_doubt_age_secs) end, p.expire_at)
        where p.id = any (v_ids);
        v_rescued := v_rescued + cardinality(v_ids);
        -- Rows that somebody holds stay leased until the next call. If others were taken over, the lease is no longer the
        -- worker's: its late outcomes for those must count as late replies, not as settled already.
        v_rest := array(select p.id from pending_notifications p
                        where p.id = any (v_lease.ids) and p.last_lease is distinct from v_lease.lease_id);
        if v_rest = '{}' then
            delete from notification_leases where appid = v_lease.appid and lease_id = v_lease.lease_id;
        elsif v_ids <> '{}' then
            update notification_leases
            set worker = v_lease.worker || case when v_lease.worker like '% (rescued)' then '' else ' (rescued)' end, ids = v_rest,
                user_keys = array(select v_lease.user_keys[array_position(v_lease.ids, r)] from unnest(v_rest) r)
            where appid = v_lease.appid and lease_id = v_lease.lease_id;
        end if;
    end loop;
    return v_rescued;
end $$;

-- The one place where events end doubts: after an event's commit, after a rescue, and now and then, since either may
-- have missed the other's uncommitted half. An unowned event belongs to the oldest row of its pair that may have been sent.
create function wxnotify_weigh(p_appid text, p_rows int default 100) returns integer
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
        where p.appid = p_appid and p.in_doubt_since is not null
          -- First by the index alone: few doubts have any event.
          and exists (select 1 from wechat_events e
                      where e.appid = p.appid and e.openid = p.openid and e.template_id = p.template_id and e.msgid is not null
                        and e.occurred_at >= p.in_doubt_since - interval '5 seconds')
          and exists (select 1 from wxnotify_unowned_events(p_appid, p.openid, p.template_id, p.in_doubt_since))
        -- + 0: not a walk through the whole table in the order of ids.
        order by p.id + 0 limit p_rows for update skip locked
    loop
        continue when exists (select 1 from notification_leases l where l.appid = p_appid and v_doubt.id = any (l.ids)
                                and l.lease_id is distinct from v_doubt.last_lease);
        select u into v_msgid from wxnotify_unowned_events(p_appid, v_doubt.openid, v_doubt.template_id, v_doubt.in_doubt_since) u limit 1;
        if v_msgid is not null then
            v_ended := v_ended + wxnotify_finish(p_appid, array[v_doubt.id], array['sent'], 'event', null, p_msgids => array[v_msgid]);
        end if;
    end loop;
    return v_ended;
end $$;

-- A late reply or an operator ends a doubt: status sent, unresolved or dead, or not_sent, which makes the row due again.
-- False: the row is not in doubt, is in flight, or somebody holds it.
create function wxnotify_decide(
    p_appid text, p_id bigint, p_status text, p_settled_by text, p_msgid bigint default null, p_errcode bigint default null,
    p_errmsg text default null, p_credit text default null) returns boolean
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_row record;
begin
    perform wxnotify_need_read_committed();
    select p.appid, p.in_doubt_since, p.last_lease into v_row from pending_notifications p where p.id = p_id for update skip locked;
    if not found or v_row.appid <> p_appid or v_row.in_doubt_since is null
       or exists (select 1 from notification_leases l
                  where l.appid = p_appid and p_id = any (l.ids) and l.lease_id is distinct from v_row.last_lease) then
        return false;
    end if;
    if p_status = 'not_sent' then
        update pending_notifications p
        set in_doubt_since = null, waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at), last_errcode = p_errcode,
            last_errmsg = left(p_errmsg, 500)
        where p.id = p_id;
        perform wxnotify_ring();
    else
        perform wxnotify_finish(p_appid, array[p_id], array[p_status], p_settled_by, null, array[p_errcode], array[left(p_errmsg, 500)],
            array[p_msgid], array[p_credit]);
    end if;
    return true;
end $$;

-- A reply that came after its lease was taken over. A success is stored as an event and weighed; a definite refusal ends
-- the doubt it caused, but never an older one. Returns whether it changed the row.
create function wxnotify_offer_late_reply(
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

-- Keeps the front of a lane clean, at most p_rows rows a call: past expire_at → expired (unresolved when in doubt), out of
-- attempts → dead (unresolved), and rows nobody can lease now get waiting_for and a later due, at most a poll of 10 minutes.
create function wxnotify_tidy(p_appid text, p_lane smallint, p_rows int default 1000) returns integer
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
    v_ids      bigint[];
    v_statuses text[];
    v_credits  text[];
    v_parked   int;
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
    with front as materialized (
        select p.ctid as tid, p.id, p.due, p.openid, p.template_id, p.kind, p.expire_at, p.in_doubt_since, p.on_doubt, p.attempts, p.attempts_max,
               p.in_doubt_since is not null and wxnotify_reads_back(p.kind, p.extra) as reads_back, hashtext(p.openid) as user_key
        from pending_notifications p
        where p.appid = p_appid and p.lane = p_lane and p.due <= v_now and p.id not in (select unnest(v_live))
        order by p.due, p.id + 0 limit p_rows),
    judged as materialized (
        select front.*,
            case when expire_at <= v_now then case when in_doubt_since is null then 'expired' else 'unresolved' end
                 when reads_back then null
                 when in_doubt_since is not null and (on_doubt <> 'retry' or attempts >= attempts_max) then 'unresolved'
                 when attempts >= attempts_max then 'dead' end as final,
            row_number() over (partition by user_key order by due, id) as turn,
            template_id = any (v_paused) as template_paused,
            user_key in (select unnest(v_busy)) as user_busy,
            v_refused and in_doubt_since is null and kind in ('one_time', 'long_term') and exists (
                select 1 from wechat_refusals r
                where r.appid = p_appid and r.openid = front.openid and r.template_id = front.template_id) as refused,
            (select min(d.due) from pending_notifications d
             where d.appid = p_appid and d.openid = front.openid and d.template_id = front.template_id and d.in_doubt_since is not null
               and d.id <> front.id and (front.in_doubt_since is null or d.id < front.id)) as pair_due
        from front),
    changing as materialized (
        select v.* from judged v join pending_notifications p on p.ctid = v.tid
        where (v.final is not null or v_until is not null or v.template_paused or v.refused or v.user_busy or v.pair_due is not null or v.turn > 8)
          and (p.due, p.template_id, p.attempts, p.attempts_max, p.expire_at, p.in_doubt_since)
              is not distinct from (v.due, v.template_id, v.attempts, v.attempts_max, v.expire_at, v.in_doubt_since)
        for update of p skip locked),
    parked as (
        update pending_notifications p
        set waiting_for = case when v_until is not null then 'app' when v.template_paused then 'template' when v.refused then 'refused'
                               when v.pair_due is not null then 'pair' else 'user' end,
            due = least(case when v_until is not null then greatest(v_until, v_now + interval '1 second') + random() * interval '2 seconds'
                             when v.template_paused then v_now + interval '10 minutes' * (0.75 + random() / 2)
                             when v.refused then v_now + case when v_weighed then interval '1 hour' else interval '5 seconds' end * (0.75 + random() / 2)
                             when v.pair_due is not null then v_now + greatest(least(v.pair_due - v_now, interval '1 minute'), interval '1 second')
                             else v_now + least(v.turn, 3000) * interval '200 milliseconds' end, p.expire_at)
        from changing v
        where p.ctid = v.tid and v.final is null
        returning 1)
    select (select count(*) from parked), (select array_agg(id) from changing where final is not null),
           (select array_agg(final) from changing where final is not null),
           (select array_agg(case when final = 'dead' then 'unknown' end) from changing where final is not null)
    into v_parked, v_ids, v_statuses, v_credits;
    if v_ids is not null then
        v_parked := v_parked + wxnotify_finish(p_appid, v_ids, v_statuses, 'policy', null, p_credits => v_credits);
    end if;
    return v_parked;
end $$;

-- Uses the oldest held credit of the pair that nobody else is using and that lives until it is to be sent. Returns its id;
-- null: none is free. One try a row, each in a subtransaction: under REPEATABLE READ another's arm is a serialization
-- failure of that row alone.
create function arm(p_appid text, p_openid text, p_template_id text, p_data jsonb, p_send_at timestamptz default null,
    p_page text default null, p_expire_at timestamptz default null) returns bigint
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_id   bigint;
    v_held boolean;
begin
    for v_id in
        select id from pending_notifications
        where appid = p_appid and openid = p_openid and template_id = p_template_id and held
          and (expire_at is null or expire_at > clock_timestamp() and (p_expire_at is not null or expire_at > coalesce(p_send_at, '-infinity')))
        order by id + 0
    loop
        begin
            select held into v_held from pending_notifications where id = v_id for update skip locked;
            continue when v_held is not true;
            update pending_notifications
            set held = false, data = p_data, send_at = p_send_at, page = coalesce(p_page, page), expire_at = coalesce(p_expire_at, expire_at)
            where id = v_id;
            if found then
                return v_id;
            end if;
        exception when serialization_failure then
            null;
        end;
    end loop;
    return null;
end $$;

-- Grants up to p_want sends of an app's rate, at most this worker's share of one second; the caller uses them within that
-- second. An app without a rate is granted all it wants.
create function wxnotify_take_rate(p_appid text, p_want int, p_workers int) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_rate    real := wxnotify_app_rate(p_appid);
    v_tokens  real;
    v_granted int;
begin
    if v_rate is null then
        return p_want;
    end if;
    insert into wechat_rates (appid, tokens, filled_at) values (p_appid, 1, clock_timestamp()) on conflict do nothing;
    select least(greatest(v_rate, 1), r.tokens + v_rate * extract(epoch from clock_timestamp() - r.filled_at)) into v_tokens
    from wechat_rates r where r.appid = p_appid for update;
    v_granted := least(p_want, floor(v_tokens), ceil(greatest(v_rate, 1) / greatest(p_workers, 1)))::int;
    if v_granted > 0 then
        update wechat_rates set tokens = v_tokens - v_granted, filled_at = clock_timestamp() where appid = p_appid;
    end if;
    return greatest(v_granted, 0);
end $$;

-- After an unclear reply to lease: gives up what the worker may have leased without knowing. It sent nothing of that, so a
-- lease started at once is given back too; one that was started later may have been sent and is left to rescue.
-- p_age_secs keeps away from a request that may still be under way.
create function wxnotify_drop_unknown(p_worker text, p_known bigint[], p_age_secs float8 default 0) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_dropped int;
begin
    delete from notification_leases l
    where l.worker = p_worker and l.lease_id <> all (p_known) and l.leased_at <= statement_timestamp() - make_interval(secs => p_age_secs)
      and (l.started_at is null or l.started_at = l.leased_at)
      and (select p.id from pending_notifications p where p.id = any (l.ids) and p.last_lease = l.lease_id limit 1) is null;
    get diagnostics v_dropped = row_count;
    return v_dropped;
end $$;

do $$
declare
    v_function regprocedure;
begin
    for v_function in select oid from pg_proc where pronamespace = quote_ident(current_schema())::regnamespace and (proname like 'wxnotify\_%' or proname = 'arm') loop
        execute format('revoke execute on function %s from public', v_function);
    end loop;
end $$;

comment on type wxnotify_leased is 'One leased row, as lease returns it.';
comment on function wxnotify_need_read_committed is 'Raises in any other isolation level.';
comment on function wxnotify_lock_app is 'The app lock, until the end of the transaction.';
comment on function wxnotify_wake_duplicates is 'Makes the losers of dedup keys due again.';
comment on function wxnotify_wake_pairs is 'Makes rows due again that waited for a doubt of their user and template.';
comment on function wxnotify_finish is 'The one way out: moves rows the caller has locked to the history.';
comment on function wxnotify_unowned_events is 'WeChat''s events about a pair whose msgid belongs to no settled row.';
comment on function wxnotify_lose_keys is 'Parks rows that lost a dedup key, or ends them as duplicates.';
comment on function wxnotify_reads_back is 'Whether WeChat can be asked if a send of the row arrived.';
comment on function wxnotify_lease_locked is 'Leases due rows; the caller holds the app lock.';
comment on function wxnotify_lease is 'Leases due rows of one mini-program and lane.';
comment on function wxnotify_lease_many is 'Leases due rows of several mini-programs and lanes.';
comment on function wxnotify_fronts is 'The first due time of every mini-program and lane.';
comment on function wxnotify_ready is 'Mini-programs and lanes with something due.';
comment on function wxnotify_start is 'The durable record before a lease''s first send.';
comment on function wxnotify_start_many is 'The durable record before the first sends of several leases.';
comment on function wxnotify_release is 'Gives back a lease that was never started.';
comment on function wxnotify_settle is 'Records outcomes of a lease''s rows.';
comment on function wxnotify_settle_many is 'Records outcomes of several leases'' rows in one commit.';
comment on function wxnotify_settle_unsent is 'Part of settle: outcomes that are not plainly sent.';
comment on function wxnotify_rescue is 'Takes over leases whose worker is gone.';
comment on function wxnotify_weigh is 'Ends doubts by events.';
comment on function wxnotify_decide is 'Ends one doubt by a late reply or an operator.';
comment on function wxnotify_offer_late_reply is 'Records a reply that came after its lease was taken over.';
comment on function wxnotify_tidy is 'Ends expired and exhausted rows, parks what cannot be leased now.';
comment on function arm is 'Uses the oldest held credit of (appid, openid, template_id): gives it data and a time. Returns its id, or null when none is free.';
comment on function wxnotify_take_rate is 'Grants a slice of a mini-program''s rate.';
comment on function wxnotify_drop_unknown is 'Gives up reservations a worker does not know.';
