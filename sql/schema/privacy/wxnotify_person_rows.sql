-- Everything that is kept of one user of one mini-program, by table.
create or replace function wxnotify_person_rows(p_appid text, p_openid text) returns table (what text, record jsonb)
language plpgsql stable set search_path from current set jit = off as $$
begin
    return query
        select 'pending_notifications', to_jsonb(p) from pending_notifications p where p.appid = p_appid and p.openid = p_openid
        union all
        select 'notification_history', to_jsonb(h) from notification_history h where h.appid = p_appid and h.openid = p_openid
        union all
        select 'notification_attempts', to_jsonb(a) from notification_attempts a
        where a.notification_id in (
            select p.id from pending_notifications p where p.appid = p_appid and p.openid = p_openid
            union all select h.id from notification_history h where h.appid = p_appid and h.openid = p_openid)
        union all
        select 'notification_keys', to_jsonb(k) from notification_keys k
        where (k.appid, k.dedup_key) in (
            select p.appid, p.dedup_key from pending_notifications p where p.appid = p_appid and p.openid = p_openid
            union all select h.appid, h.dedup_key from notification_history h where h.appid = p_appid and h.openid = p_openid)
        union all
        select 'wechat_events', to_jsonb(e) - 'dedup_hash' from wechat_events e where e.appid = p_appid and e.openid = p_openid
        union all
        select 'wechat_refusals', to_jsonb(r) from wechat_refusals r where r.appid = p_appid and r.openid = p_openid
        union all
        select 'reminder_schedules', to_jsonb(s) from reminder_schedules s where s.appid = p_appid and s.openid = p_openid
        union all
        select 'reminder_audience', to_jsonb(a) from reminder_audience a join reminder_schedules s on s.id = a.schedule_id where s.appid = p_appid and a.openid = p_openid;
end $$;

comment on function wxnotify_person_rows is 'Everything that is kept of one user of one mini-program.';
