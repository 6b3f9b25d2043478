-- One row of a fire. A rule that its text breaks raises check_violation, as for any row.
create or replace function wxnotify_insert_reminder(s reminder_schedules, p_openid text, p_texts jsonb, p_ref text, p_local_at timestamp, p_fold smallint, p_fire_at timestamptz) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 as $$
declare
    v_send_at timestamptz := p_fire_at + wxnotify_spread_of(s.id, p_openid, s.spread);
    v_due     timestamptz := case s.quiet when 'hold' then wxnotify_schedule_quiet_end(s, v_send_at) + random() * interval '2 minutes' end;
begin
    insert into pending_notifications (appid, kind, openid, template_id, page, data, miniprogram_state, lang, send_at, expire_at, lane, dedup_key, business_ref,
        on_doubt, producer, schedule_id, local_at, fold, schedule_version, waiting_for, due, check_at)
    values (s.appid, s.kind, p_openid, s.template_id, wxnotify_render(s.page, p_local_at, p_texts), wxnotify_render_data(s.data, p_local_at, p_texts),
        s.miniprogram_state, s.lang, v_send_at, coalesce(v_due, v_send_at) + s.valid_for, s.lane, left(wxnotify_render(s.dedup_key, p_local_at, p_texts), 200),
        coalesce(p_ref, s.business_ref), s.on_doubt, s.producer, s.id, p_local_at, p_fold, s.version,
        case when v_due is not null then 'quiet' when wxnotify_check_of(s) is not null then 'check' end,
        case when v_due is not null then v_due when wxnotify_check_of(s) is not null then 'infinity' end, v_send_at - interval '2 seconds');
end $$;

comment on function wxnotify_insert_reminder is 'Part of a fire: inserts one row.';

grant execute on function wxnotify_insert_reminder to wxnotify_worker;
