-- The one way out: moves rows THE CALLER HAS LOCKED in an earlier statement to the history, in array order of p_ids, frees
-- their dedup keys (a sent row keeps its key for ever) and wakes those who waited for the key. Returns how many were moved.
-- Optional arrays may be null: the row's last known errcode and errmsg are then kept. One row that the database refuses fails the whole
-- call; wxnotify_finish_carefully, or the parameter wxnotify.careful, which settle is called with when it was refused, costs that row alone.
create or replace function wxnotify_finish(
    p_appid text, p_ids bigint[], p_statuses text[], p_settled_by text, p_worker text,
    p_errcodes bigint[] default null, p_errmsgs text[] default null, p_msgids bigint[] default null, p_credits text[] default null,
    p_duplicate_of bigint[] default null, p_attempts smallint default 0) returns integer
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_mergejoin = off set enable_sort = off set jit = off set plan_cache_mode = force_generic_plan as $$
declare
    v_moved    int;
    v_keys     text[];
    v_ids      bigint[];
    v_msgids   bigint[];
    v_evidence int := 0;
    v_openids  text[];
    v_pairs    text[];
    v_reminded bigint[];
begin
    if current_setting('wxnotify.careful', true) = 'on' then
        return wxnotify_finish_carefully(p_appid, p_ids, p_statuses, p_settled_by, p_worker, p_errcodes, p_errmsgs, p_msgids, p_credits, p_duplicate_of, p_attempts);
    end if;
    -- A doubt that would end without evidence: there may be some that nobody has weighed yet.
    if p_statuses && array['unresolved', 'presumed_sent'] then
        select array_agg(d.id), array_agg(d.msgid) into v_ids, v_msgids from (
            select distinct on (p.openid, p.template_id) p.id, e.msgid
            from unnest(p_ids, p_statuses) u (id, status)
            cross join lateral (
                select r.id, r.openid, r.template_id, r.in_doubt_since from pending_notifications r where r.id = u.id limit 1) p
            cross join lateral (
                select m.msgid from wxnotify_unowned_events(p_appid, p.openid, p.template_id, p.in_doubt_since) m (msgid) limit 1) e
            where u.status in ('unresolved', 'presumed_sent') and p.in_doubt_since is not null
            order by p.openid, p.template_id, p.id) d;
        if v_ids is not null then
            -- They are gone when the statement below looks for them.
            v_evidence := wxnotify_finish(p_appid, v_ids, array_fill('sent'::text, array[cardinality(v_ids)]), 'event', p_worker,
                p_msgids => v_msgids, p_attempts => p_attempts);
        end if;
    end if;
    with gone as (
        delete from pending_notifications p using (
            select l.tid, u.status, u.errcode, u.errmsg, u.msgid, u.credit, u.duplicate_of
            from unnest(p_ids, p_statuses, p_errcodes, p_errmsgs, p_msgids, p_credits, p_duplicate_of)
                as u (id, status, errcode, errmsg, msgid, credit, duplicate_of)
            cross join lateral (
                select r.ctid as tid from pending_notifications r where r.id = u.id limit 1) l) u
        where p.ctid = u.tid
        -- By name: the table may have columns of others.
        returning p.id, p.appid, p.kind, p.openid, p.template_id, p.page, p.data, p.extra, p.miniprogram_state, p.lang, p.send_at, p.held, p.expire_at,
            p.lane, p.dedup_key, p.business_ref, p.on_doubt, p.attempts_max, p.created_at, p.producer, p.attempts, p.in_doubt_since, p.last_errcode, p.last_errmsg, p.last_attempt_at,
            p.schedule_id, p.local_at, p.fold, u.status, u.errcode, u.errmsg, u.msgid, u.credit, u.duplicate_of),
    kept as (
        insert into notification_history (id, appid, status, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at,
            held, expire_at, lane, dedup_key, business_ref, on_doubt, attempts_max, created_at, producer, attempts, in_doubt_since, errcode,
            errmsg, msgid, credit, duplicate_of, worker, settled_by, last_attempt_at, finished_at,
            schedule_id, local_at, fold)
        select id, appid, status, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at,
            held, expire_at, lane, dedup_key, business_ref, on_doubt, attempts_max, created_at, producer, attempts + p_attempts, in_doubt_since,
            case when status <> 'sent' then coalesce(errcode, last_errcode) when p_settled_by = 'reply' then 0 else errcode end,
            case when status = 'sent' then errmsg else coalesce(errmsg, last_errmsg) end,
            msgid, credit, duplicate_of, p_worker, p_settled_by, last_attempt_at, clock_timestamp(), schedule_id, local_at, fold
        from gone),
    freed as (
        delete from notification_keys f where f.ctid = any (array(
            select (select k.ctid from notification_keys k where k.appid = p_appid and k.dedup_key = gone.dedup_key and k.id = gone.id)
            from gone where gone.dedup_key is not null and gone.status not in ('sent', 'presumed_sent'))))
    select count(*), array_agg(dedup_key) filter (where dedup_key is not null and status <> 'duplicate'),
           array_agg(openid) filter (where in_doubt_since is not null), array_agg(template_id) filter (where in_doubt_since is not null),
           array_agg(id) filter (where schedule_id is not null)
    into v_moved, v_keys, v_openids, v_pairs, v_reminded from gone;
    if v_moved + v_evidence < cardinality(p_ids) then
        raise exception 'a trigger keeps % of % rows in pending_notifications', cardinality(p_ids) - v_moved - v_evidence, cardinality(p_ids)
            using errcode = 'triggered_action_exception';
    end if;
    if v_keys is not null then
        perform wxnotify_wake_duplicates(p_appid, v_keys);
    end if;
    if v_openids is not null then
        perform wxnotify_wake_pairs(p_appid, v_openids, v_pairs);
    end if;
    if v_reminded is not null then
        perform wxnotify_end_reminders(v_reminded);
    end if;
    return v_moved + v_evidence;
end $$;

comment on function wxnotify_finish is 'The one way out: moves rows the caller has locked to the history.';

grant execute on function wxnotify_finish to wxnotify_worker;
