-- Sees to the times of one schedule up to p_to: makes their fires, or records why not, and sets its clock. The schedule is locked FOR SHARE, so
-- that an edit waits for this or is seen; its clock FOR UPDATE and compared, so that of two makers one makes. Nothing is waited for. Of an
-- audience of one the row itself is made, and the fire is born done. A text that breaks a rule (p_refused) makes the fire without it.
-- Returns the fires made; null: it could not be had, ask again in a second.
create or replace function wxnotify_fire_schedule(p_schedule_id bigint, p_next_fire_at timestamptz, p_to timestamptz, p_refused text default null) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    s         reminder_schedules;
    k         reminder_clock;
    c         reminder_calendars;
    v_now     timestamptz;
    v_upto    timestamptz;
    v_local   timestamp[];
    v_folds   smallint[];
    v_at      timestamptz[];
    v_past    int;          -- how many of them are before now
    v_reasons text[] := '{}';
    v_over    boolean := false;
    v_next    timestamptz;
    v_made    int := 0;
    v_quiet   timestamptz;
    v_may     boolean;
begin
    select * into s from reminder_schedules r where r.id = p_schedule_id for share skip locked;
    if not found then
        return null;
    end if;
    select * into k from reminder_clock r where r.schedule_id = p_schedule_id and r.next_fire_at = p_next_fire_at for update skip locked;
    if not found then
        return 0;
    end if;
    select * into c from reminder_calendars r where r.spec = s.spec;
    -- An edit that nobody has seen to yet, or times that nobody has computed yet.
    if k.version <> s.version or s.paused_at is not null or c.computed_at is null then
        return null;
    end if;
    if c.problem is not null then
        update reminder_clock r set next_fire_at = 'infinity' where r.schedule_id = p_schedule_id;
        return 0;
    end if;
    v_now := clock_timestamp();
    if k.place < c.covers_from or c.covers_until <= v_now and c.covers_until <= k.place then
        perform wxnotify_want_calendar(c.spec, k.place);
        return null;
    end if;
    v_upto := least(p_to, c.covers_until);
    select array_agg(u.local_at order by u.fire_at), array_agg(u.fold order by u.fire_at), array_agg(u.fire_at order by u.fire_at), count(*) filter (where u.fire_at <= v_now)
    into v_local, v_folds, v_at, v_past
    from unnest(c.local_ats, c.folds, c.fire_ats) u (local_at, fold, fire_at)
    where u.fire_at > k.place and u.fire_at <= v_upto
      and (s.starts_at is null or u.local_at >= s.starts_at) and (s.ends_at is null or u.local_at < s.ends_at)
      and (s.only_on is null or wxnotify_fires_on(s.only_on, s.calendar, u.local_at::date))
      and not exists (select 1 from reminder_fires f where f.schedule_id = s.id and f.local_at = u.local_at and f.fold = u.fold);
    for v_n in 1 .. coalesce(cardinality(v_at), 0) loop
        if k.fires_made + v_made >= s.fires_max then
            exit;
        end if;
        v_quiet := wxnotify_schedule_quiet_end(s, v_at[v_n]);
        v_may := coalesce(v_may, wxnotify_may_fire(s));
        v_reasons[v_n] := case
            when v_n <= v_past and (s.missed = 'skip' or s.missed = 'latest' and v_n < v_past
                 or s.missed = 'all' and (v_at[v_n] <= v_now - s.catch_up or v_n <= v_past - s.catch_up_max))
                then case when v_at[v_n] between s.last_paused_at and s.last_resumed_at then 'paused' else 'missed' end
            when coalesce(v_quiet, v_at[v_n]) + s.spread + s.valid_for <= v_now then 'too late'
            when v_quiet is not null and s.quiet = 'drop' then 'quiet hours'
            when not v_may then 'not approved' end;
        if v_reasons[v_n] is null then
            v_made := v_made + 1;
            insert into reminder_fires (schedule_id, local_at, fold, fire_at, version, state, reason, audience, made, refused)
            values (s.id, v_local[v_n], v_folds[v_n], v_at[v_n], s.version, case s.audience when 'one' then 'done' else 'open' end, p_refused,
                (s.audience = 'one')::int, (s.audience = 'one' and p_refused is null)::int, (s.audience = 'one' and p_refused is not null)::int);
            if s.audience = 'one' and p_refused is null then
                perform wxnotify_insert_reminder(s, s.openid, '{}', null, v_local[v_n], v_folds[v_n], v_at[v_n]);
            end if;
        end if;
    end loop;
    perform wxnotify_skip_fires(s, v_local, v_folds, v_at, v_reasons);
    v_over := k.fires_made + v_made >= s.fires_max;
    if v_over is not true then
        select min(u.fire_at), bool_and(u.local_at >= s.ends_at) into v_next, v_over
        from unnest(c.local_ats, c.fire_ats) u (local_at, fire_at)
        where u.fire_at > v_upto and (s.starts_at is null or u.local_at >= s.starts_at) and (s.only_on is null or wxnotify_fires_on(s.only_on, s.calendar, u.local_at::date));
    end if;
    update reminder_clock r
    set place = v_upto, fires_made = k.fires_made + v_made, is_over = coalesce(v_over, false), problem = null,
        next_fire_at = case when v_over then 'infinity' else coalesce(v_next, greatest(c.covers_until, v_now)) end
    where r.schedule_id = p_schedule_id;
    return v_made;
end $$;

comment on function wxnotify_fire_schedule is 'Makes the fires of one schedule that are due, and sets its clock.';

grant execute on function wxnotify_fire_schedule to wxnotify_worker;
