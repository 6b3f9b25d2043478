-- What a check answered about p_ids: rows whose ref still holds are due and may be sent for some seconds, the others end. A row whose ref is not
-- the one asked for is asked again. Rows without a check any more (p_check_name null) go on to their start, which decides. Returns how many ended.
create or replace function wxnotify_settle_checks(p_check_name text, p_appid text, p_ids bigint[], p_refs text[], p_holding text[]) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
declare
    v_ids   bigint[];
    v_refs  text[];
    v_over  bigint[];
    v_doubt boolean[];
begin
    perform wxnotify_need_read_committed();
    update reminder_checks c set asked = c.asked + 1, asked_at = clock_timestamp(), failing_since = null, problem = null where c.name = p_check_name;
    select array_agg(l.id), array_agg(u.ref) into v_ids, v_refs
    from unnest(p_ids, p_refs) u (id, ref)
    cross join lateral (select p.id from pending_notifications p where p.id = u.id and p.waiting_for = 'check' limit 1 for update skip locked) l;
    if v_ids is null then
        return 0;
    end if;
    select array_agg(p.id), array_agg(p.in_doubt_since is not null) into v_over, v_doubt
    from pending_notifications p
    where p.id = any (v_ids) and p_check_name is not null and p.business_ref = v_refs[array_position(v_ids, p.id)] and p.business_ref <> all (p_holding);
    update pending_notifications p
    set check_at = case when x.changed then clock_timestamp() end, checked_at = case when not x.changed then clock_timestamp() end,
        waiting_for = case when x.changed then 'check' when p.in_doubt_since is not null then 'doubt' end,
        due = case when x.changed then p.due else wxnotify_next_due(p.held, p.send_at, p.expire_at) end
    from (select q.id, p_check_name is not null and q.business_ref is distinct from v_refs[array_position(v_ids, q.id)] as changed
          from pending_notifications q where q.id = any (v_ids) and q.id <> all (coalesce(v_over, '{}'))) x
    where p.id = x.id;
    perform wxnotify_ring();
    if v_over is null then
        return 0;
    end if;
    return wxnotify_finish_carefully(p_appid, v_over, array(select case when d then 'unresolved' else 'cancelled' end from unnest(v_doubt) d), 'policy', null, null,
        array(select case when d then 'in doubt, and no longer true' else 'no longer true' end from unnest(v_doubt) d));
end $$;

comment on function wxnotify_settle_checks is 'Records what a check answered about rows.';

grant execute on function wxnotify_settle_checks to wxnotify_worker;
