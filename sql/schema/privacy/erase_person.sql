-- A step of at most p_rows rows of each table; call it, in a transaction of its own, until it changes nothing. What is in flight or in doubt is left
-- until it is settled: call it again then.
create or replace function erase_person(p_appid text, p_openid text, p_note text, p_rows int default 1000) returns table (what text, rows bigint)
language plpgsql volatile security definer set search_path from current set gin_fuzzy_search_limit = 20784 set jit = off as $$
#variable_conflict use_column
declare
    v_person  text := wxnotify_pseudonym(p_appid, p_openid);
    v_limit   int := least(greatest(p_rows, 1), 1000);
    v_ids     bigint[];
    v_ats     timestamptz[];
    v_counts  bigint[] := '{0,0,0,0,0,0}';
    v_rows    bigint;
    v_left    bigint;
begin
    perform wxnotify_need_read_committed();
    perform wxnotify_need_app(p_appid);
    if coalesce(btrim(p_note), '') = '' then
        raise exception 'erase_person needs a reason' using errcode = '22023', hint = 'It is kept in operator_actions, as is who erased.';
    end if;
    v_ids := array(select x.id from reminder_schedules x where x.appid = p_appid and x.openid = p_openid limit v_limit);
    delete from reminder_schedules s where s.id = any (v_ids);
    get diagnostics v_rows = row_count;
    v_counts[1] := v_rows;
    update reminder_schedules_deleted d set name = replace(d.name, p_openid, v_person) where d.schedule_id = any (v_ids);
    delete from reminder_audience a using reminder_schedules s
    where s.id = a.schedule_id and s.appid = p_appid and a.openid = p_openid;
    get diagnostics v_rows = row_count;
    v_counts[2] := v_rows;
    v_ids := array(select p.id from pending_notifications p where p.appid = p_appid and p.openid = p_openid limit v_limit);
    select count(*) filter (where c.result = 'cancelled'), count(*) filter (where c.result <> 'cancelled') into v_rows, v_left
    from cancel_notifications(v_ids, false, p_note, jsonb_build_object('appid', p_appid, 'person', v_person)) c;
    v_counts[3] := v_rows;
    select array_agg(h.id), array_agg(h.finished_at) into v_ids, v_ats
    from (select x.id, x.finished_at from notification_history x where x.appid = p_appid and x.openid = p_openid limit v_limit) h;
    if v_ids is not null then
        v_counts[4] := wxnotify_forget_rows(v_ids, v_ats, true);
    end if;
    -- Its content goes; that it was received stays, so that a repeat is known for one.
    update wechat_events e set openid = v_person, payload = null
    where e.id = any (array(select x.id from wechat_events x where x.appid = p_appid and x.openid = p_openid limit v_limit));
    get diagnostics v_rows = row_count;
    v_counts[5] := v_rows;
    update wechat_refusals r set openid = v_person where r.appid = p_appid and r.openid = p_openid and not exists (
        select 1 from wechat_refusals o where o.appid = r.appid and o.openid = v_person and o.template_id = r.template_id);
    get diagnostics v_rows = row_count;
    v_counts[6] := v_rows;
    delete from wechat_refusals r where r.appid = p_appid and r.openid = p_openid;
    v_rows := (select sum(c) from unnest(v_counts) c);
    if v_rows > 0 then
        perform wxnotify_record_action('erase_person', jsonb_build_object('appid', p_appid, 'person', v_person), v_rows, p_note);
    end if;
    return query select * from unnest(array['reminders deleted', 'list entries deleted', 'messages cancelled', 'messages forgotten', 'events forgotten', 'refusals forgotten',
        'left in flight or in doubt'], v_counts || coalesce(v_left, 0)) u (what, rows);
end $$;

comment on function erase_person is 'Erases one user of one mini-program: reminders and waiting messages end, and a pseudonym stands for the user in what is kept for the books. Call it until it changes nothing.';

grant execute on function erase_person to wxnotify_operator;
