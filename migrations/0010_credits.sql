-- The credit ledger: what users accepted and refused, which accepts belong to which rows, and what became of each credit.
--
-- One accept is one credit. It may have two witnesses: the row a business system inserts, and WeChat's pop-up event. They are
-- paired one to one, never added: wechat_events.notification_id names the row that is the same tap. Either may be missing. A
-- business system may lose its report; WeChat pushes no event where "always keep" hid the pop-up, and may lose one.
--
-- Nothing here is on the way of an INSERT, a lease or a settle. Workers call wxnotify_apply_answers every second, after the
-- events' commit; one at a time, since what it decides for a pair depends on all that is known of the pair. What is decided
-- is a function of the stored events and rows, so the order in which events arrive, and arrive again, does not matter.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Whether a business row inserted after a moment says that the user accepted again. WeChat dates in whole seconds, so a row
-- of the same second is not later. A redriven row is no tap.
create function wxnotify_accepted_by_row(p_appid text, p_openid text, p_template_id text, p_since timestamptz) returns boolean
language sql stable set search_path from current set enable_seqscan = off as $$
    select exists (select 1 from pending_notifications p
                   where p.appid = p_appid and p.openid = p_openid and p.template_id = p_template_id and p.kind = 'one_time'
                     and p.created_at >= p_since + interval '1 second'
                     and not exists (select 1 from notification_redrives d where d.new_id = p.id))
        or exists (select 1 from notification_history h
                   where h.appid = p_appid and h.openid = p_openid and h.template_id = p_template_id and h.kind = 'one_time'
                     and h.created_at >= p_since + interval '1 second' and h.finished_at >= p_since
                     and not exists (select 1 from notification_redrives d where d.new_id = h.id))
$$;
comment on function wxnotify_accepted_by_row is 'Whether a row inserted after a refusal witnesses a new accept.';

-- Makes rows due again that waited for their user's next accept; one that somebody holds looks again by itself.
create function wxnotify_wake_refused(p_appid text, p_openid text, p_template_id text) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    with woken as (
        select p.id from pending_notifications p
        where p.appid = p_appid and p.openid = p_openid and p.template_id = p_template_id and p.waiting_for = 'refused'
        limit 1000 for update skip locked)
    update pending_notifications p set waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at)
    where p.id = any (array(select woken.id from woken));
    if found then
        perform wxnotify_ring();
    end if;
end $$;
comment on function wxnotify_wake_refused is 'Makes rows due again that waited for their user''s next accept.';

-- Parks what a user refuses. Rows in flight, in doubt or held, and those that wait for a pause, are left alone: lease and tidy
-- look at refusals themselves.
create function wxnotify_park_refused(p_appid text, p_openid text, p_template_id text) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    v_ids bigint[];
begin
    v_ids := array(
        select p.id from pending_notifications p
        where p.appid = p_appid and p.openid = p_openid and p.template_id = p_template_id and p.kind in ('one_time', 'long_term')
          and not p.held and p.in_doubt_since is null and (p.waiting_for is null or p.waiting_for in ('retry', 'user', 'pair'))
        limit 1000 for update skip locked);
    -- A later statement: its snapshot is newer than the locks, so a lease either waited for them or is seen here.
    update pending_notifications p
    set waiting_for = 'refused',
        due = least(greatest(p.due, clock_timestamp() + interval '1 hour' * (0.75 + random() / 2)), p.expire_at)
    where p.id = any (v_ids)
      and not exists (select 1 from notification_leases l
                      where l.appid = p_appid and p.id = any (l.ids) and l.lease_id is distinct from p.last_lease);
end $$;
comment on function wxnotify_park_refused is 'Parks the rows of a user and template until the next accept.';

-- Says whether a user refuses a template now, by all that is known: the later of accept and reject, by WeChat's CreateTime
-- and not by arrival; of one second the reject. A 43101 on a long_term message counts as a reject, a row inserted later as an
-- accept. Notes the answer and parks or wakes the rows. Callers that do several pairs go in the order of their names.
create function wxnotify_weigh_pair(p_appid text, p_openid text, p_template_id text) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_said     record;
    v_noted    record;
    v_since    timestamptz;
    v_said_by  text;
begin
    select e.answer, e.event, e.occurred_at into v_said from wechat_events e
    where e.appid = p_appid and e.openid = p_openid and e.template_id = p_template_id and e.answer is not null
    order by e.occurred_at desc, e.answer desc limit 1;
    select r.refused_at, r.said_by into v_noted from wechat_refusals r
    where r.appid = p_appid and r.openid = p_openid and r.template_id = p_template_id for update;
    if v_said.answer = 'reject' then
        v_since := v_said.occurred_at;
        v_said_by := case v_said.event when 'subscribe_msg_popup_event' then 'popup' else 'change' end;
    end if;
    if v_noted.said_by = '43101' and v_noted.refused_at > coalesce(v_said.occurred_at, '-infinity') then
        v_since := v_noted.refused_at;
        v_said_by := '43101';
    end if;
    if v_since is not null and wxnotify_accepted_by_row(p_appid, p_openid, p_template_id, v_since) then
        v_since := null;
    end if;
    if v_since is null then
        delete from wechat_refusals r where r.appid = p_appid and r.openid = p_openid and r.template_id = p_template_id;
        perform wxnotify_wake_refused(p_appid, p_openid, p_template_id);
    else
        insert into wechat_refusals as r (appid, openid, template_id, refused_at, said_by)
        values (p_appid, p_openid, p_template_id, v_since, v_said_by)
        on conflict (appid, openid, template_id) do update set refused_at = excluded.refused_at, said_by = excluded.said_by
        where (r.refused_at, r.said_by) is distinct from (excluded.refused_at, excluded.said_by);
        perform wxnotify_park_refused(p_appid, p_openid, p_template_id);
    end if;
    return v_since is not null;
end $$;
comment on function wxnotify_weigh_pair is 'Notes whether a user refuses a template now, and parks or wakes the rows.';

-- Part of settle: 43101 on a long_term message, which spends no credit, says that the user turned the template off. Dated by
-- the second in which the send began, so that an accept of that second or later is not undone by it.
create function wxnotify_note_43101(p_appid text, p_started_at timestamptz, p_ids bigint[]) returns void
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    v_pair record;
begin
    for v_pair in
        select distinct p.openid, p.template_id from pending_notifications p where p.id = any (p_ids) order by 1, 2
    loop
        insert into wechat_refusals as r (appid, openid, template_id, refused_at, said_by)
        values (p_appid, v_pair.openid, v_pair.template_id, date_trunc('second', coalesce(p_started_at, clock_timestamp())), '43101')
        on conflict (appid, openid, template_id) do update set refused_at = excluded.refused_at, said_by = excluded.said_by
        where r.refused_at < excluded.refused_at;
        perform wxnotify_weigh_pair(p_appid, v_pair.openid, v_pair.template_id);
    end loop;
end $$;
comment on function wxnotify_note_43101 is 'Part of settle: parks what a 43101 on a long_term message says the user turned off.';

-- Part of tidy: refusals of pairs at the front of a lane that an accept has ended meanwhile, by a row inserted later or by an
-- event that was not seen when the refusal was noted. False: what users said is being applied at this moment; look again soon.
create function wxnotify_lift_refusals(p_appid text, p_lane smallint, p_now timestamptz, p_rows int) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    v_pair record;
begin
    if not pg_try_advisory_xact_lock(20785, 0) then
        return false;
    end if;
    for v_pair in
        select distinct f.openid, f.template_id
        from (select p.openid, p.template_id, p.kind, p.created_at from pending_notifications p
              where p.appid = p_appid and p.lane = p_lane and p.due <= p_now order by p.due, p.id + 0 limit p_rows) f
        join wechat_refusals r on r.appid = p_appid and r.openid = f.openid and r.template_id = f.template_id
        where (f.kind = 'one_time' and f.created_at >= r.refused_at + interval '1 second')
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

-- The first row of a pair, by created_at, that may be the tap of an accept at p_at and that no other accept claims; a minute
-- of grace for clocks that differ. Rows that wxnotify made itself, by a redrive or of an accept, are no witnesses.
create function wxnotify_row_of_tap(p_appid text, p_openid text, p_template_id text, p_at timestamptz, p_window_secs float8) returns bigint
language sql stable set search_path from current set enable_seqscan = off as $$
    select r.id
    from (select p.id, p.created_at from pending_notifications p
          where p.appid = p_appid and p.openid = p_openid and p.template_id = p_template_id and p.kind = 'one_time'
          union all
          -- The bound on finished_at keeps old partitions out.
          select h.id, h.created_at from notification_history h
          where h.appid = p_appid and h.openid = p_openid and h.template_id = p_template_id and h.kind = 'one_time'
            and h.finished_at >= p_at - interval '1 minute') r
    where r.created_at between p_at - interval '1 minute' and p_at + make_interval(secs => p_window_secs)
      and not exists (select 1 from wechat_events c where c.notification_id = r.id)
      and not exists (select 1 from wechat_events c where c.held_id = r.id)
      and not exists (select 1 from notification_redrives d where d.new_id = r.id)
    order by r.created_at, r.id limit 1
$$;
comment on function wxnotify_row_of_tap is 'The row that is the same tap as an accept, if there is one.';

-- Pairs one accept with its row, or makes a held row of it when its window is over and p_hold says so. Returns whether it is
-- worth another look. THE CALLER HOLDS THE LEDGER'S LOCK.
create function wxnotify_pair_accept(p_event wechat_events, p_hold boolean, p_window_secs float8) returns boolean
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_row     bigint;
    v_held    bigint;
    v_is_held boolean;
begin
    if p_event.held_id is not null then
        -- Armed, cancelled or spent: the credit is used, and a row that comes now is another one's or one too many.
        select p.id, p.held into v_held, v_is_held from pending_notifications p where p.id = p_event.held_id;
        if v_is_held is not true then
            return false;
        end if;
    end if;
    v_row := wxnotify_row_of_tap(p_event.appid, p_event.openid, p_event.template_id, p_event.occurred_at, p_window_secs);
    if v_row is not null then
        if v_held is not null then
            -- The business row came after all: the held one is withdrawn, so that one tap stays one credit.
            select p.held into v_is_held from pending_notifications p where p.id = v_held for update skip locked;
            if v_is_held is not true then
                return true;
            end if;
            perform wxnotify_finish(p_event.appid, array[v_held], array['cancelled'], 'policy', null);
        end if;
        update wechat_events e set notification_id = v_row where e.id = p_event.id;
        return false;
    end if;
    if p_hold and v_held is null and p_event.occurred_at + make_interval(secs => p_window_secs) < clock_timestamp()
       -- An accept of a long_term template is no credit.
       and not exists (select 1 from pending_notifications p
                       where p.appid = p_event.appid and p.openid = p_event.openid and p.template_id = p_event.template_id and p.kind <> 'one_time')
       and not exists (select 1 from notification_history h
                       where h.appid = p_event.appid and h.openid = p_event.openid and h.template_id = p_event.template_id and h.kind <> 'one_time') then
        begin
            insert into pending_notifications (appid, kind, openid, template_id, data, held, created_at)
            values (p_event.appid, 'one_time', p_event.openid, p_event.template_id, '{}', true, p_event.occurred_at)
            returning id into v_held;
            update wechat_events e set notification_id = v_held, held_id = v_held where e.id = p_event.id;
        exception when check_violation then
            return false;  -- what no row may hold (a time beyond 2200) stays an accept without one
        end;
    end if;
    return true;
end $$;
comment on function wxnotify_pair_accept is 'Pairs an accept with its row, or makes a held row of it.';

-- Applies what users said, at most p_rows events a call: notes refusals, pairs accepts. An accept without a row is looked at
-- again after as long as it has waited, at the end of its window, and given up after eight days. Returns how many were looked
-- at; 0 also while another worker is at it.
create function wxnotify_apply_answers(p_hold boolean default false, p_window_secs float8 default 600, p_rows int default 500) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set enable_mergejoin = off set jit = off as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_ids   bigint[];
    v_pair  record;
    v_event wechat_events;
    v_again boolean;
begin
    perform wxnotify_need_read_committed();
    if not pg_try_advisory_xact_lock(20785, 0) then
        return 0;
    end if;
    v_ids := array(select e.id from wechat_events e where e.apply_at <= v_now and e.answer is not null order by e.apply_at limit p_rows);
    for v_pair in
        select distinct e.appid, e.openid, e.template_id from unnest(v_ids) u (id) join wechat_events e on e.id = u.id
        where e.applied_at is null order by 1, 2, 3
    loop
        perform wxnotify_weigh_pair(v_pair.appid, v_pair.openid, v_pair.template_id);
    end loop;
    for v_event in
        select e.* from unnest(v_ids) u (id) join wechat_events e on e.id = u.id order by e.occurred_at, e.id
    loop
        -- Only a pop-up is a tap; a change in the card's menu gives no credit.
        v_again := v_event.answer = 'accept' and v_event.event = 'subscribe_msg_popup_event'
                   and wxnotify_pair_accept(v_event, p_hold, p_window_secs);
        update wechat_events e
        set applied_at = coalesce(e.applied_at, v_now),
            apply_at = case when v_again and v_now - e.received_at < interval '8 days' then
                least(v_now + greatest(v_now - e.received_at, interval '1 second'),
                      case when e.occurred_at + make_interval(secs => p_window_secs) >= v_now
                           then e.occurred_at + make_interval(secs => p_window_secs) + interval '10 milliseconds' end) end
        where e.id = v_event.id;
    end loop;
    return cardinality(v_ids);
end $$;
comment on function wxnotify_apply_answers is 'Applies what users accepted and refused: notes refusals, pairs accepts with rows, makes held rows of unclaimed ones.';

-- Every entry of the books: a witness of an accept (accepts is 1), a place where a credit is (fate), or both. A row that was
-- redriven handed its credit on; a held row that was withdrawn never had one of its own.
create view notification_credit_entries as
select p.appid, p.openid, p.template_id,
       case when p.in_doubt_since is not null then 'in_doubt' when p.held then 'held' else 'pending' end as fate,
       case when exists (select 1 from notification_redrives d join notification_history o on o.id = d.redriven_id where d.new_id = p.id)
            then 0 else 1 end as accepts,
       p.id as notification_id, null::bigint as event_id,
       coalesce((select c.occurred_at from wechat_events c where c.notification_id = p.id), p.created_at) as at, null::timestamptz as accepted_at,
       null::timestamptz as finished_at, null::timestamptz as none_left_at
from pending_notifications p
where p.kind = 'one_time'
union all
select h.appid, h.openid, h.template_id,
       case when exists (select 1 from notification_redrives d where d.redriven_id = h.id) then 'redriven'
            when exists (select 1 from wechat_events w where w.held_id = h.id and w.notification_id <> h.id) then 'withdrawn'
            when h.status in ('sent', 'presumed_sent') then 'sent'
            when h.status = 'unresolved' then 'unresolved'
            when h.status = 'dead' then 'dead_' || coalesce(h.credit, 'unknown')
            else 'unused' end,
       case when exists (select 1 from notification_redrives d join notification_history o on o.id = d.redriven_id where d.new_id = h.id)
              or exists (select 1 from wechat_events w where w.held_id = h.id and w.notification_id <> h.id)
            then 0 else 1 end,
       h.id, null, coalesce((select c.occurred_at from wechat_events c where c.notification_id = h.id), h.created_at), null, h.finished_at,
       case when h.status = 'dead' and h.errcode = 43101 and (
                select e.answer from wechat_events e
                where e.appid = h.appid and e.openid = h.openid and e.template_id = h.template_id and e.answer is not null
                  and e.occurred_at <= h.finished_at + interval '5 seconds'
                order by e.occurred_at desc, e.answer desc limit 1) is distinct from 'reject' then h.finished_at end
from notification_history h
where h.kind = 'one_time'
union all
select e.appid, e.openid, e.template_id, case when e.notification_id is null then 'unclaimed' else 'claimed' end,
       case when e.notification_id is null then 1 else 0 end, e.notification_id, e.id, e.occurred_at, e.occurred_at, null, null
from wechat_events e
where e.answer = 'accept' and e.event = 'subscribe_msg_popup_event'
union all
select e.appid, e.openid, e.template_id, 'elsewhere', 0, null, e.id, e.occurred_at, null, null, null
from wechat_events e
where e.event = 'subscribe_msg_sent_event' and e.msgid is not null and e.applied_at is null
  and not exists (select 1 from notification_history h
                  where h.appid = e.appid and h.openid = e.openid and h.template_id = e.template_id and h.msgid = e.msgid);
comment on view notification_credit_entries is 'The entries that notification_credits adds up; wxnotify''s own.';
comment on column notification_credit_entries.appid is 'The mini-program.';
comment on column notification_credit_entries.openid is 'The user.';
comment on column notification_credit_entries.template_id is 'The template.';
comment on column notification_credit_entries.fate is 'The column of notification_credits it counts in; claimed, redriven and withdrawn count in none.';
comment on column notification_credit_entries.accepts is '1 for a witness of an accept that no other entry counts.';
comment on column notification_credit_entries.notification_id is 'The notification; for an accept the one that claims it.';
comment on column notification_credit_entries.event_id is 'The event.';
comment on column notification_credit_entries.at is 'When the user tapped or the message was sent elsewhere, as far as known.';
comment on column notification_credit_entries.none_left_at is 'When a 43101 without a refusal said that no credit was left.';
comment on column notification_credit_entries.accepted_at is 'When WeChat says that the user accepted.';
comment on column notification_credit_entries.finished_at is 'When the notification ended.';

create view notification_credits as
select c.appid, c.openid, c.template_id, c.accepted, greatest(coalesce(c.accepted_since, 0) - c.spent_since, 0) as balance, c.unclaimed, c.held + c.pending as outstanding, c.held, c.pending, c.in_doubt, c.sent,
       c.unresolved, c.dead_gone, c.dead_kept, c.dead_unknown, c.unused, c.sent_elsewhere, r.refused_at, c.last_accepted_at, c.last_finished_at
from (
    select n.appid, n.openid, n.template_id, sum(n.accepts) as accepted,
           count(*) filter (where n.fate = 'unclaimed') as unclaimed,
           count(*) filter (where n.fate = 'held') as held,
           count(*) filter (where n.fate = 'pending') as pending,
           count(*) filter (where n.fate = 'in_doubt') as in_doubt,
           count(*) filter (where n.fate = 'sent') as sent,
           count(*) filter (where n.fate = 'unresolved') as unresolved,
           count(*) filter (where n.fate = 'dead_gone') as dead_gone,
           count(*) filter (where n.fate = 'dead_kept') as dead_kept,
           count(*) filter (where n.fate = 'dead_unknown') as dead_unknown,
           count(*) filter (where n.fate = 'unused') as unused,
           count(*) filter (where n.fate = 'elsewhere') as sent_elsewhere,
           -- A 43101 is a count by WeChat itself: what came before it does not matter any more.
           sum(n.accepts) filter (where n.none_left is null or n.at > n.none_left) as accepted_since,
           count(*) filter (where (n.fate in ('sent', 'unresolved') and (n.none_left is null or n.finished_at > n.none_left))
                               or n.fate = 'in_doubt' or (n.fate = 'elsewhere' and (n.none_left is null or n.at > n.none_left))) as spent_since,
           max(n.accepted_at) as last_accepted_at, max(n.finished_at) as last_finished_at
    from (select e.*, max(e.none_left_at) over (partition by e.appid, e.openid, e.template_id) as none_left
          from notification_credit_entries e) n
    group by n.appid, n.openid, n.template_id) c
left join wechat_refusals r on r.appid = c.appid and r.openid = c.openid and r.template_id = c.template_id;
comment on view notification_credits is 'One-time credits per user and template, as far as history reaches back: accepted = unclaimed + outstanding + in_doubt + sent + unresolved + dead_gone + dead_kept + dead_unknown + unused. Filter by appid and openid: without a filter it reads everything.';
comment on column notification_credits.appid is 'The mini-program.';
comment on column notification_credits.openid is 'The user.';
comment on column notification_credits.template_id is 'The template.';
comment on column notification_credits.accepted is 'Accepts we know of: rows, and WeChat''s pop-up events that no row claims.';
comment on column notification_credits.balance is 'Credits that WeChat most likely still holds: accepted less what was or may have been spent, here and elsewhere; after a 43101 without a refusal, which says that none was left, counted anew.';
comment on column notification_credits.unclaimed is 'Accepts that no row claims: WeChat most likely holds the credit, and nothing will spend it.';
comment on column notification_credits.outstanding is 'Held and pending.';
comment on column notification_credits.held is 'Recorded and not armed.';
comment on column notification_credits.pending is 'On their way, or paused.';
comment on column notification_credits.in_doubt is 'Perhaps spent.';
comment on column notification_credits.sent is 'Spent.';
comment on column notification_credits.unresolved is 'Perhaps spent; never found out.';
comment on column notification_credits.dead_gone is 'WeChat said there was no credit (43101).';
comment on column notification_credits.dead_kept is 'Refused for a reason that spends no credit: WeChat most likely still holds it.';
comment on column notification_credits.dead_unknown is 'Dead-lettered without knowing what became of the credit.';
comment on column notification_credits.unused is 'Expired, cancelled or duplicate: WeChat may still hold the credit.';
comment on column notification_credits.sent_elsewhere is 'Messages of other systems that WeChat''s sent events name: they spent credits too.';
comment on column notification_credits.refused_at is 'Since when the user refuses the template; null: does not, or has accepted again.';
comment on column notification_credits.last_accepted_at is 'The last accept that WeChat pushed.';
comment on column notification_credits.last_finished_at is 'When the last of the rows ended.';

-- The books balance while this is empty. Each arm can be filtered by appid and openid.
create view notification_credit_faults as
select e.appid, e.openid, e.template_id, 'lost: the row that claims an accept exists nowhere' as fault, e.notification_id, e.id as event_id
from wechat_events e
where e.answer is not null and e.notification_id is not null
  and not exists (select 1 from pending_notifications p where p.id = e.notification_id)
  and not exists (select 1 from notification_history h where h.id = e.notification_id)
union all
select h.appid, h.openid, h.template_id, 'lost: the row it was redriven as exists nowhere', h.id, null
from notification_history h
join notification_redrives d on d.redriven_id = h.id
where h.status in ('dead', 'unresolved', 'expired', 'cancelled')
  and not exists (select 1 from pending_notifications p where p.id = d.new_id)
  and not exists (select 1 from notification_history f where f.id = d.new_id)
union all
select p.appid, p.openid, p.template_id, 'counted twice: it is pending and final', p.id, null
from pending_notifications p
where exists (select 1 from notification_history h where h.id = p.id)
union all
select h.appid, h.openid, h.template_id, 'counted twice: it ended more than once', h.id, null
from notification_history h
group by h.appid, h.openid, h.template_id, h.id
having count(*) > 1
union all
select h.appid, h.openid, h.template_id, 'counted twice: two rows own the message with msgid ' || h.msgid, min(h.id), null
from notification_history h
where h.msgid is not null
group by h.appid, h.openid, h.template_id, h.msgid
having count(distinct h.id) > 1
union all
select e.appid, e.openid, e.template_id, 'misclaimed: an accept is claimed by a row of another user or template', e.notification_id, e.id
from wechat_events e
join notification_history h on h.id = e.notification_id
where e.answer is not null and (h.appid, h.openid, h.template_id, h.kind) is distinct from (e.appid, e.openid, e.template_id, 'one_time')
union all
select c.appid, c.openid, c.template_id,
       format('unbalanced: %s accepted, %s accounted for', c.accepted,
              c.unclaimed + c.outstanding + c.in_doubt + c.sent + c.unresolved + c.dead_gone + c.dead_kept + c.dead_unknown + c.unused), null, null
from notification_credits c
where c.accepted <> c.unclaimed + c.outstanding + c.in_doubt + c.sent + c.unresolved + c.dead_gone + c.dead_kept + c.dead_unknown + c.unused;
comment on view notification_credit_faults is 'Where the books do not balance; empty while they do. Filter by appid and openid: without a filter it reads everything.';
comment on column notification_credit_faults.appid is 'The mini-program.';
comment on column notification_credit_faults.openid is 'The user.';
comment on column notification_credit_faults.template_id is 'The template.';
comment on column notification_credit_faults.fault is 'What is wrong.';
comment on column notification_credit_faults.notification_id is 'The notification it is about.';
comment on column notification_credit_faults.event_id is 'The event it is about.';

-- Which 43101 it was: never_accepted, refused, used_up or spent_elsewhere, with the evidence and how certain it makes us.
--
-- WeChat's code does not say, so it is told from the books. A 43101 without a refusal means that no credit is left, so every
-- accept we know of has been spent: what wxnotify did not spend, somebody else did, and WeChat's sent events with a msgid
-- that is none of ours name some of those. Each message sent elsewhere explains one 43101 of ours, which is why the pair's
-- earlier ones are gone through in order. SECURITY DEFINER: who may read the views needs no right to the tables.
create function wxnotify_which_43101(
    p_id bigint, out which text, out certainty text, out evidence text, out evidence_zh text)
language plpgsql stable security definer set search_path from current set jit = off as $$
declare
    n            record;
    d            record;
    v_said       record;
    v_accepts    bigint;   -- by WeChat's pop-up events
    v_sent       bigint;   -- by wxnotify
    v_doubtful   bigint;   -- perhaps by wxnotify
    v_foreign    bigint;   -- by others, as sent events tell
    v_elsewhere  bigint := 0;
    v_until      timestamptz;  -- events are dated by WeChat's clock, hence the grace
    v_rejects    boolean;
    v_popups     boolean;
    v_form       constant text := 'YYYY-MM-DD HH24:MI:SSOF';
begin
    select x.* into n from (
        select h.id, h.appid, h.openid, h.template_id, h.kind, h.created_at, h.finished_at from notification_history h
        where h.id = p_id and h.errcode = 43101
        union all
        select p.id, p.appid, p.openid, p.template_id, p.kind, p.created_at, p.last_attempt_at from pending_notifications p
        where p.id = p_id and p.last_errcode = 43101) x limit 1;
    if n.id is null then
        return;
    end if;
    for d in
        select n.id, n.created_at, n.finished_at
        union
        select h.id, h.created_at, h.finished_at from notification_history h
        where h.appid = n.appid and h.openid = n.openid and h.template_id = n.template_id and h.kind = 'one_time'
          and h.status = 'dead' and h.errcode = 43101 and (h.finished_at, h.id) < (n.finished_at, n.id)
        order by 3, 1
    loop
        v_until := d.finished_at + interval '5 seconds';
        select e.answer, e.event, e.occurred_at into v_said from wechat_events e
        where e.appid = n.appid and e.openid = n.openid and e.template_id = n.template_id and e.answer is not null
          and e.occurred_at <= v_until
        order by e.occurred_at desc, e.answer desc limit 1;
        -- A message that went out after the reject shows that the user had accepted again.
        continue when d.id <> n.id and v_said.answer = 'reject';
        which := null;
        if v_said.answer = 'reject' and not exists (
                select 1 from notification_history h
                where h.appid = n.appid and h.openid = n.openid and h.template_id = n.template_id and h.status = 'sent'
                  and h.created_at > v_said.occurred_at + interval '1 second' and h.finished_at < d.finished_at) then
            which := 'refused';
            continue;
        end if;
        select count(*) filter (where e.answer = 'accept' and e.event = 'subscribe_msg_popup_event'), bool_or(e.answer = 'reject')
        into v_accepts, v_rejects from wechat_events e
        where e.appid = n.appid and e.openid = n.openid and e.template_id = n.template_id and e.answer is not null
          and e.occurred_at <= v_until;
        select count(*) filter (where h.status in ('sent', 'presumed_sent')), count(*) filter (where h.status = 'unresolved')
        into v_sent, v_doubtful from notification_history h
        where h.appid = n.appid and h.openid = n.openid and h.template_id = n.template_id and h.kind = 'one_time'
          and h.finished_at <= d.finished_at and h.id <> d.id;
        v_doubtful := v_doubtful + (
            select count(*) from pending_notifications p
            where p.appid = n.appid and p.openid = n.openid and p.template_id = n.template_id and p.in_doubt_since <= d.finished_at);
        select count(distinct e.msgid) into v_foreign from wechat_events e
        where e.appid = n.appid and e.openid = n.openid and e.template_id = n.template_id
          and e.event = 'subscribe_msg_sent_event' and e.msgid is not null
          and e.occurred_at <= v_until
          and not exists (select 1 from notification_history h
                          where h.appid = n.appid and h.openid = n.openid and h.template_id = n.template_id and h.msgid = e.msgid);
        -- A doubtful send of ours may be the one that an unowned event names, or that a credit is missing for.
        v_foreign := greatest(v_foreign - v_doubtful, 0);
        if greatest(v_foreign, v_accepts - v_sent - v_doubtful) > v_elsewhere then
            which := 'spent_elsewhere';
            v_elsewhere := v_elsewhere + 1;
        elsif v_accepts + v_sent + v_doubtful + v_foreign = 0 then
            which := 'never_accepted';
        else
            which := 'used_up';
        end if;
    end loop;

    if which = 'refused' then
        certainty := case when n.created_at < v_said.occurred_at then 'certain' else 'likely' end;
        evidence := format('WeChat pushed a reject of %s (%s)%s.', to_char(v_said.occurred_at, v_form),
            case v_said.event when 'subscribe_msg_popup_event' then 'in the pop-up' else 'in the card''s menu' end,
            case certainty when 'likely' then '; the row was inserted after it, and no later accept was pushed' else '' end);
        evidence_zh := format('微信于 %s 推送过拒绝事件（%s）%s。', to_char(v_said.occurred_at, v_form),
            case v_said.event when 'subscribe_msg_popup_event' then '弹窗' else '消息菜单' end,
            case certainty when 'likely' then '；该行在其后插入，但之后没有收到新的同意事件' else '' end);
        return;
    end if;
    if n.kind <> 'one_time' then
        which := 'refused';
        certainty := 'likely';
        evidence := 'Such a message spends no credit, so the user never subscribed or has turned it off.';
        evidence_zh := '此类消息不消耗次数，因此是用户从未订阅或已关闭。';
        return;
    end if;
    v_popups := exists (select 1 from wechat_events e where e.appid = n.appid and e.answer is not null and e.event = 'subscribe_msg_popup_event');
    case which
    when 'spent_elsewhere' then
        certainty := case when v_foreign >= v_elsewhere then 'certain' when v_rejects then 'possible' else 'likely' end;
        if certainty = 'certain' then
            evidence := format('WeChat''s sent events name %s message(s) to this user from this template that wxnotify did not send.', v_foreign);
            evidence_zh := format('微信的送达事件显示，有 %s 条同一用户同一模板的消息不是 wxnotify 发送的。', v_foreign);
        else
            evidence := format('WeChat pushed %s accept(s) and wxnotify spent %s: a credit must have been left%s.', v_accepts, v_sent + v_doubtful,
                case when v_rejects then ', unless a reject in between ended it' else '' end);
            evidence_zh := format('微信推送过 %s 次同意，wxnotify 只用掉 %s 次，本应还有剩余%s。', v_accepts, v_sent + v_doubtful,
                case when v_rejects then '（除非中间的拒绝使其失效）' else '' end);
        end if;
    when 'used_up' then
        certainty := case when v_accepts > 0 and v_sent + v_doubtful > 0 then 'likely' else 'possible' end;
        evidence := format('WeChat pushed %s accept(s); wxnotify sent %s, %s more may have arrived, and %s were sent elsewhere.',
            v_accepts, v_sent, v_doubtful, greatest(v_foreign, v_elsewhere));
        evidence_zh := format('微信推送过 %s 次同意；wxnotify 已发送 %s 条，另有 %s 条可能已送达，其他系统发送 %s 条。',
            v_accepts, v_sent, v_doubtful, greatest(v_foreign, v_elsewhere));
    else
        certainty := case when v_popups then 'likely' else 'possible' end;
        evidence := 'Nothing was ever sent to this user from this template, and no accept was pushed' || case when v_popups
            then ', although pop-up events of this app do arrive.' else '; but no pop-up event of this app ever arrived.' end;
        evidence_zh := '从未向该用户成功发送过该模板的消息，也没有收到同意事件' || case when v_popups
            then '，而该小程序的弹窗事件是能收到的。' else '；但该小程序从未收到过弹窗事件。' end;
    end case;
end $$;
comment on function wxnotify_which_43101 is 'Which 43101 a notification met: never_accepted, refused, used_up or spent_elsewhere, with the evidence; certainty is certain, likely or possible. Nulls for a notification that met none.';

create view notification_43101 as
select h.id, h.appid, h.openid, h.template_id, h.business_ref, w.which, w.certainty, w.evidence, w.evidence_zh, h.created_at, h.finished_at
from notification_history h
cross join lateral wxnotify_which_43101(h.id) w
where h.status = 'dead' and h.errcode = 43101;
comment on view notification_43101 is 'Notifications that ended with 43101, and which 43101 it was. Bound finished_at: each row is weighed against the books of its user and template.';
comment on column notification_43101.id is 'The notification.';
comment on column notification_43101.appid is 'The mini-program.';
comment on column notification_43101.openid is 'The receiver.';
comment on column notification_43101.template_id is 'The template.';
comment on column notification_43101.business_ref is 'The business object.';
comment on column notification_43101.which is 'never_accepted, refused, used_up or spent_elsewhere.';
comment on column notification_43101.certainty is 'certain, likely or possible.';
comment on column notification_43101.evidence is 'What tells so.';
comment on column notification_43101.evidence_zh is 'The same in Chinese.';
comment on column notification_43101.created_at is 'When it was inserted.';
comment on column notification_43101.finished_at is 'When it ended.';

revoke execute on function wxnotify_accepted_by_row, wxnotify_wake_refused, wxnotify_park_refused, wxnotify_weigh_pair, wxnotify_note_43101,
    wxnotify_lift_refusals, wxnotify_row_of_tap, wxnotify_pair_accept, wxnotify_apply_answers, wxnotify_which_43101 from public;
