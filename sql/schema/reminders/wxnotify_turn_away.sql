-- Part of the start: what may not be sent now, locked by the caller, ends or is put off. A row of an older version than its schedule's is left to
-- wxnotify_apply_changes, which is told of it.
create or replace function wxnotify_turn_away(p_appid text, p_ids bigint[], p_schedules bigint[], p_verdicts text[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_ids      bigint[];
    v_statuses text[];
    v_errmsgs  text[];
begin
    select array_agg(u.id), array_agg(case u.verdict when 'unresolved' then 'unresolved' else 'cancelled' end),
           array_agg(case u.verdict when 'unresolved' then 'in doubt, and its reminder was changed, paused or deleted meanwhile' when 'taken off' then 'the user was taken off the list'
                     else u.verdict end)
    into v_ids, v_statuses, v_errmsgs
    from unnest(p_ids, p_verdicts) u (id, verdict) where u.verdict in ('unresolved', 'taken off', 'no credit');
    if v_ids is not null then
        perform wxnotify_finish_carefully(p_appid, v_ids, v_statuses, 'policy', null, null, v_errmsgs);
    end if;
    update pending_notifications p
    set waiting_for = 'reminder', due = least(clock_timestamp() + case u.verdict when 'paused' then interval '10 minutes' else interval '1 second' end, p.expire_at)
    from unnest(p_ids, p_verdicts) u (id, verdict)
    cross join lateral (select r.ctid as tid from pending_notifications r where r.id = u.id limit 1) l
    where p.ctid = l.tid and u.verdict in ('stale', 'deleted', 'paused', 'locked', 'busy');
    insert into reminder_changes (schedule_id)
    select distinct u.schedule_id from unnest(p_schedules, p_verdicts) u (schedule_id, verdict) where u.verdict in ('stale', 'deleted');
end $$;

comment on function wxnotify_turn_away is 'Part of the start: rows of reminders that may not be sent now end or are put off.';

grant execute on function wxnotify_turn_away to wxnotify_worker;
