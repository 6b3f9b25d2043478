-- Part of a fire: inserts the rows of its next receivers. Users who refuse the template are left out. All at once; where one text breaks a
-- rule, one by one, so that it costs only itself.
create or replace function wxnotify_make_chunk(s reminder_schedules, f reminder_fires, p_rows int, out seen int, out made int, out last_openid text, out rule text)
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set jit = off as $$
declare
    v_openids text[];
    v_texts   jsonb[];
    v_refs    text[];
    v_has_check constant boolean := wxnotify_check_of(s) is not null;
    v_is_hushed constant boolean := s.quiet = 'hold' and exists (select 1 from notification_quiet_hours h where h.appid = s.appid);
begin
    select count(*), max(r.openid), array_agg(r.openid) filter (where not x.refused), array_agg(r.texts) filter (where not x.refused), array_agg(r.ref) filter (where not x.refused)
    into seen, last_openid, v_openids, v_texts, v_refs
    from wxnotify_next_receivers(s, f.cursor, p_rows) r
    cross join lateral (select exists (select 1 from wechat_refusals w where w.appid = s.appid and w.openid = r.openid and w.template_id = s.template_id) as refused) x;
    made := 0;
    begin
        insert into pending_notifications (appid, kind, openid, template_id, page, data, miniprogram_state, lang, send_at, expire_at, lane, dedup_key, business_ref,
            on_doubt, producer, schedule_id, local_at, fold, schedule_version, waiting_for, due, check_at)
        select s.appid, s.kind, u.openid, s.template_id, wxnotify_render(s.page, f.local_at, u.texts), wxnotify_render_data(s.data, f.local_at, u.texts),
            s.miniprogram_state, s.lang, u.send_at, coalesce(u.due, u.send_at) + s.valid_for, s.lane, left(wxnotify_render(s.dedup_key, f.local_at, u.texts), 200),
            coalesce(u.ref, s.business_ref), s.on_doubt, s.producer, s.id, f.local_at, f.fold, s.version,
            case when u.due is not null then 'quiet' when v_has_check then 'check' end, case when u.due is not null then u.due when v_has_check then 'infinity' end,
            u.send_at - interval '2 seconds'
        from (select x.*, case when v_is_hushed then wxnotify_schedule_quiet_end(s, x.send_at) + random() * interval '2 minutes' end as due
              from (select w.*, f.fire_at + wxnotify_spread_of(s.id, w.openid, s.spread) as send_at
                    from unnest(v_openids, v_texts, v_refs) w (openid, texts, ref)) x) u;
        get diagnostics made = row_count;
    exception when check_violation then
        made := 0;
        for v_n in 1 .. cardinality(v_openids) loop
            begin
                perform wxnotify_insert_reminder(s, v_openids[v_n], v_texts[v_n], v_refs[v_n], f.local_at, f.fold, f.fire_at);
                made := made + 1;
            exception when check_violation then
                -- The message names the rule, not the text.
                rule := left(sqlerrm, 500);
            end;
        end loop;
    end;
end $$;

comment on function wxnotify_make_chunk is 'Part of a fire: inserts the rows of its next receivers.';

grant execute on function wxnotify_make_chunk to wxnotify_worker;
