-- Part of wxnotify_apply_change: rows THE CALLER HAS LOCKED, of an older version and not in flight. An edit of the text alone rewrites them;
-- any other, and a deletion (the schedule is null then), cancels them. A text that breaks a rule for one receiver costs that row alone.
create or replace function wxnotify_revise_rows(s reminder_schedules, p_ids bigint[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_row    record;
    v_ids    bigint[];
    v_errors text[];
    v_reason constant text := case when s.id is null then 'the reminder was deleted' else 'the reminder was changed' end;
    v_appid  text;
begin
    select array_agg(p.id), array_agg(v_reason), min(p.appid) into v_ids, v_errors, v_appid
    from pending_notifications p where p.id = any (p_ids) and (s.id is null or p.schedule_version < s.recast_version);
    for v_row in
        select p.id, p.appid, p.local_at, p.schedule_version, a.data as texts, a.ref
        from pending_notifications p left join reminder_audience a on a.schedule_id = p.schedule_id and a.openid = p.openid and s.audience = 'list'
        where p.id = any (p_ids) and s.id is not null and p.schedule_version >= s.recast_version
    loop
        begin
            update pending_notifications p
            set data = wxnotify_render_data(s.data, p.local_at, coalesce(v_row.texts, '{}')), page = wxnotify_render(s.page, p.local_at, coalesce(v_row.texts, '{}')),
                miniprogram_state = s.miniprogram_state, lang = s.lang, business_ref = coalesce(v_row.ref, s.business_ref), schedule_version = s.version,
                -- Its start asks again what it waits for now.
                waiting_for = case when p.waiting_for in ('quiet', 'check') then null else p.waiting_for end,
                due = case when p.waiting_for in ('quiet', 'check') then wxnotify_next_due(p.held, p.send_at, p.expire_at) else p.due end, checked_at = null
            where p.id = v_row.id;
        exception when check_violation then
            v_appid := v_row.appid;
            v_ids := v_ids || v_row.id;
            v_errors := v_errors || left(sqlerrm, 500);
        end;
    end loop;
    if v_ids is not null then
        perform wxnotify_finish_carefully(v_appid, v_ids, array_fill('cancelled'::text, array[cardinality(v_ids)]), 'policy', null, null, v_errors);
    end if;
end $$;

comment on function wxnotify_revise_rows is 'Part of wxnotify_apply_change: rewrites or cancels rows of an older version.';

grant execute on function wxnotify_revise_rows to wxnotify_worker;
