-- Part of the start: what may not be sent now, locked by the caller, ends or is put off. A row of an older version than its schedule's is left to
-- wxnotify_apply_changes, which is told of it.
create or replace function wxnotify_turn_away(p_appid text, p_ids bigint[], p_schedules bigint[], p_verdicts text[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off as $$
declare
    v_ids      bigint[];
    v_statuses text[];
    v_errmsgs  text[];
    v_now      timestamptz := clock_timestamp();
begin
    select array_agg(u.id), array_agg(case u.verdict when 'unresolved' then 'unresolved' else 'cancelled' end),
           array_agg(case u.verdict when 'unresolved' then 'in doubt, and its reminder was changed, paused or deleted meanwhile' when 'taken off' then 'the user was taken off the list'
                     else u.verdict end)
    into v_ids, v_statuses, v_errmsgs
    from unnest(p_ids, p_verdicts) u (id, verdict) where u.verdict in ('unresolved', 'taken off', 'no credit', 'quiet hours');
    if v_ids is not null then
        perform wxnotify_finish_carefully(p_appid, v_ids, v_statuses, 'policy', null, null, v_errmsgs);
    end if;
    update pending_notifications p
    set waiting_for = case when u.verdict = 'check' then 'check' when u.verdict <> 'quiet' then 'reminder' when p.in_doubt_since is null then 'quiet' else 'doubt' end,
        due = least(case u.verdict when 'check' then 'infinity' when 'paused' then v_now + interval '10 minutes'
            when 'quiet' then coalesce(wxnotify_row_quiet_end(p.appid, p.template_id, p.lane, p.schedule_id, v_now) + random() * interval '2 minutes', v_now)
            else v_now + interval '1 second' end, p.expire_at),
        check_at = case when u.verdict = 'check' then v_now end
    from unnest(p_ids, p_verdicts) u (id, verdict)
    cross join lateral (select r.ctid as tid from pending_notifications r where r.id = u.id limit 1) l
    where p.ctid = l.tid and u.verdict in ('stale', 'deleted', 'paused', 'locked', 'busy', 'quiet', 'check');
    insert into reminder_changes (schedule_id)
    select distinct u.schedule_id from unnest(p_schedules, p_verdicts) u (schedule_id, verdict) where u.verdict in ('stale', 'deleted');
end $$;

comment on function wxnotify_turn_away is 'Part of the start: rows of reminders that may not be sent now end or are put off.';

grant execute on function wxnotify_turn_away to wxnotify_worker;
