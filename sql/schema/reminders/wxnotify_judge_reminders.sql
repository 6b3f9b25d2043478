-- Part of wxnotify_start_reminders: of leased, unstarted rows that reminders made, those that may be sent now. Credits are locked first, so that
-- the schedules' locks, which editors wait for, are held shortly. The others are ended or put off.
create or replace function wxnotify_judge_reminders(p_appid text, p_ids bigint[]) returns bigint[]
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_hashjoin = off set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_ids       bigint[];
    v_schedules bigint[];
    v_versions  int[];
    v_doubts    boolean[];
    v_off       boolean[];   -- taken off the list
    v_paid      boolean[];   -- has taken its credit at an earlier start
    v_needs     boolean[];   -- needs one
    v_rivals    boolean[];   -- somebody holds one
    v_credits   bigint[];
    v_locked    bigint[];    -- schedules as they are now
    v_now_at    int[];
    v_verdicts  text[];
    v_quiets    text[];     -- in quiet hours: what its schedule says of them
    v_unasked   boolean[];  -- has a check that was not asked just now
    v_quiet     boolean := exists (select 1 from notification_quiet_hours h where h.appid = p_appid);
    v_checks    boolean := exists (select 1 from reminder_checks);
begin
    -- Locked in the order of ids, as what is ended below must be; who holds one keeps it out of this lease.
    select array_agg(r.id), array_agg(r.schedule_id), array_agg(r.schedule_version), array_agg(r.doubt), array_agg(r.off), array_agg(r.paid), array_agg(r.needs),
        array_agg(r.quiet), array_agg(r.unasked)
    into v_ids, v_schedules, v_versions, v_doubts, v_off, v_paid, v_needs, v_quiets, v_unasked
    from (
        select p.id, p.schedule_id, p.schedule_version, p.in_doubt_since is not null as doubt,
            coalesce(s.audience = 'list' and p.fold >= 0 and not exists (select 1 from reminder_audience a where a.schedule_id = p.schedule_id and a.openid = p.openid), false) as off,
            d.id is not null as paid, coalesce(s.credit = 'held', false) and p.in_doubt_since is null and d.id is null as needs,
            case when v_quiet and p.fold >= 0 and wxnotify_schedule_quiet_end(s.w, clock_timestamp()) is not null then s.quiet end as quiet,
            case when v_checks then wxnotify_check_of(s.w) is not null and coalesce(p.checked_at < clock_timestamp() - interval '10 seconds', true) else s.still_true is not null end as unasked
        from (select x.id from unnest(p_ids) x (id) order by x.id) u
        cross join lateral (select q.id, q.openid, q.schedule_id, q.fold, q.schedule_version, q.in_doubt_since, q.checked_at from pending_notifications q where q.id = u.id limit 1 for update skip locked) p
        left join lateral (select r as w, r.audience, r.credit, r.quiet, r.still_true from reminder_schedules r where r.id = p.schedule_id limit 1) s on true
        left join lateral (select e.redriven_id as id from notification_redrives e where e.new_id = p.id limit 1) d on true) r;
    if v_ids is null then
        return '{}';
    end if;
    -- What expires first, then the oldest tap.
    select array_agg(h.id order by u.n), array_agg(h.id is null and u.needs and exists (
               select 1 from pending_notifications q where q.appid = p_appid and q.openid = p.openid and q.template_id = p.template_id and q.held
                 and (q.expire_at is null or q.expire_at > clock_timestamp())) order by u.n)
    into v_credits, v_rivals
    from unnest(v_ids, v_needs) with ordinality u (id, needs, n)
    cross join lateral (select q.openid, q.template_id from pending_notifications q where q.id = u.id limit 1) p
    left join lateral (
        select q.id from pending_notifications q
        where u.needs and q.appid = p_appid and q.openid = p.openid and q.template_id = p.template_id and q.held
          and (q.expire_at is null or q.expire_at > clock_timestamp())
        order by q.expire_at, q.created_at, q.id + 0 limit 1 for update skip locked) h on true;
    -- Last, and by id alone: an edit waits for our commit, or is seen.
    select array_agg(l.id), array_agg(l.version) into v_locked, v_now_at
    from (select distinct x.id from unnest(v_schedules) x (id) order by x.id) u
    cross join lateral (select r.id, case when r.paused_at is null then r.version else -r.version end as version
                        from reminder_schedules r where r.id = u.id limit 1 for share skip locked) l;
    v_verdicts := array(
        select case when l.version is null and not g.there then case when u.doubt then 'unresolved' else 'deleted' end
                    when l.version is null then 'locked'
                    when abs(l.version) <> u.version then case when u.doubt then 'unresolved' else 'stale' end
                    when l.version < 0 then case when u.doubt then 'unresolved' else 'paused' end
                    when u.off and not u.doubt then 'taken off'
                    when u.quiet = 'drop' and not u.doubt then 'quiet hours'
                    when u.quiet is not null then 'quiet'
                    when u.unasked then 'check'
                    when u.doubt then 'go'
                    when u.needs and u.credit is null then case when u.rival then 'busy' else 'no credit' end
                    else 'go' end
        from unnest(v_schedules, v_versions, v_doubts, v_off, v_quiets, v_unasked, v_needs, v_rivals, v_credits)
            with ordinality u (schedule_id, version, doubt, off, quiet, unasked, needs, rival, credit, n)
        left join lateral (select v_now_at[array_position(v_locked, u.schedule_id)] as version) l on true
        left join lateral (select exists (select 1 from reminder_schedules r where r.id = u.schedule_id) as there) g on l.version is null
        order by u.n);
    perform wxnotify_take_credits(p_appid, v_ids, v_verdicts, v_credits);
    perform wxnotify_turn_away(p_appid, v_ids, v_schedules, v_verdicts);
    return array(select u.id from unnest(v_ids, v_verdicts) u (id, verdict) where u.verdict = 'go');
end $$;

comment on function wxnotify_judge_reminders is 'Part of the start: which rows of reminders may be sent now.';

grant execute on function wxnotify_judge_reminders to wxnotify_worker;
