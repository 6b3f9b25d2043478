-- Part of wxnotify_apply_changes, of one schedule. Idempotent. True: nothing of an older version is left.
create or replace function wxnotify_apply_change(p_schedule_id bigint, p_rows int) returns boolean
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    s        reminder_schedules;
    v_now    timestamptz := clock_timestamp();
    v_ids    bigint[];
    v_free   bigint[];
begin
    select * into s from reminder_schedules r where r.id = p_schedule_id;
    if s.id is null then
        delete from reminder_clock k where k.schedule_id = p_schedule_id;
        update reminder_fires f set state = 'cancelled', reason = 'deleted after ' || f.made where f.schedule_id = p_schedule_id and f.state = 'open';
        delete from reminder_audience a where a.schedule_id = p_schedule_id and a.openid = any (array(
            select x.openid from reminder_audience x where x.schedule_id = p_schedule_id limit p_rows));
    else
        insert into reminder_calendars (spec, cron, every, anchor, time_zone)
        values (s.spec, regexp_replace(btrim(s.cron), ' +', ' ', 'g'), s.every, case when s.every is not null then s.starts_at end, s.time_zone)
        on conflict do nothing;
        insert into reminder_clock as k (schedule_id, next_fire_at, place, version)
        values (s.id, case when s.paused_at is null then v_now else 'infinity' end, v_now, s.version)
        on conflict (schedule_id) do update
        -- New times count from here; with other changes what is due stays due.
        set place = case when k.version < s.retimed_version then v_now when k.version < s.recast_version then least(k.place, v_now) else k.place end,
            next_fire_at = case when s.paused_at is not null then 'infinity' else v_now end, version = s.version, is_over = false;
        if s.paused_at is null then
            update pending_notifications p set due = least(clock_timestamp(), p.expire_at), waiting_for = null
            where p.id = any (array(select x.id from pending_notifications x where x.schedule_id = s.id and x.waiting_for = 'reminder'
                                    limit p_rows for update skip locked));
        end if;
    end if;
    -- A row in doubt ends by its own policy, at its start.
    v_ids := array(select p.id from pending_notifications p
                   where p.schedule_id = p_schedule_id and p.in_doubt_since is null and (s.id is null or p.schedule_version < s.version)
                   limit p_rows for update skip locked);
    -- A later statement: a newer snapshot than the locks. What is in flight is left alone.
    v_free := array(select p.id from pending_notifications p
                    where p.id = any (v_ids) and not exists (
                        select 1 from notification_leases l where l.appid = p.appid and p.id = any (l.ids) and l.lease_id is distinct from p.last_lease));
    if v_free <> '{}' then
        perform wxnotify_revise_rows(s, v_free);
    end if;
    if exists (select 1 from pending_notifications p
               where p.schedule_id = p_schedule_id and p.in_doubt_since is null and (s.id is null or p.schedule_version < s.version))
       or s.id is null and exists (select 1 from reminder_audience a where a.schedule_id = p_schedule_id) then
        return false;
    end if;
    return s.id is null or wxnotify_revise_fires(s);
end $$;

comment on function wxnotify_apply_change is 'Part of wxnotify_apply_changes: sees to one schedule.';

grant execute on function wxnotify_apply_change to wxnotify_worker;
