-- The message as it would be now, to one user, as a row of the schedule that belongs to no time of it (fold -1): it takes a held credit as others
-- do, and no count of a fire knows it.
create or replace function test_fire(p_id bigint, p_openid text) returns bigint
language plpgsql volatile security definer set search_path from current set gin_fuzzy_search_limit = 20784 as $$
declare
    s          reminder_schedules;
    v_texts    jsonb;
    v_local_at timestamp;
    v_id       bigint;
begin
    perform wxnotify_need_schedule(p_id);
    -- An edit that commits meanwhile is found by the row's start.
    select * into s from reminder_schedules r where r.id = p_id;
    select a.data into v_texts from reminder_audience a where a.schedule_id = p_id and a.openid = p_openid;
    v_local_at := date_trunc('second', clock_timestamp() at time zone s.time_zone);
    insert into pending_notifications (appid, kind, openid, template_id, page, data, miniprogram_state, lang, expire_at, lane, business_ref,
        on_doubt, producer, schedule_id, local_at, fold, schedule_version)
    values (s.appid, s.kind, p_openid, s.template_id, wxnotify_render(s.page, v_local_at, v_texts), wxnotify_render_data(s.data, v_local_at, v_texts),
        s.miniprogram_state, s.lang, clock_timestamp() + s.valid_for, s.lane, s.business_ref, s.on_doubt, s.producer, s.id, v_local_at, -1, s.version)
    returning id into v_id;
    perform wxnotify_record_action('test_fire', jsonb_build_object('schedule_id', p_id), 1, null);
    return v_id;
end $$;

comment on function test_fire is 'Sends a reminder''s message to one user now, as a test, and returns the notification''s id. It spends a credit as the reminder does.';

grant execute on function test_fire to wxnotify_operator;
grant execute on function test_fire to wxnotify_producer;
