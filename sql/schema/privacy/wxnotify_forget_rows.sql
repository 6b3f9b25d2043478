-- Part of the erasure: rows of the history lose their texts, and a pseudonym stands for their receiver, in what WeChat said too. p_forget_openid
-- false: the texts alone.
create or replace function wxnotify_forget_rows(p_ids bigint[], p_finished_ats timestamptz[], p_forget_openid boolean) returns integer
language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_rows int;
begin
    if p_forget_openid then
        update notification_attempts a
        set errmsg = replace(a.errmsg, h.openid, wxnotify_pseudonym(h.appid, h.openid)), reason = replace(a.reason, h.openid, wxnotify_pseudonym(h.appid, h.openid))
        from unnest(p_ids, p_finished_ats) u (id, finished_at)
        join notification_history h on h.id = u.id and h.finished_at = u.finished_at
        where a.notification_id = u.id and (strpos(a.errmsg, h.openid) > 0 or strpos(a.reason, h.openid) > 0);
        -- A key or a reference of the business may name the user too.
        update notification_keys k
        set dedup_key = replace(k.dedup_key, h.openid, wxnotify_pseudonym(h.appid, h.openid))
        from unnest(p_ids, p_finished_ats) u (id, finished_at)
        join notification_history h on h.id = u.id and h.finished_at = u.finished_at
        where k.appid = h.appid and k.dedup_key = h.dedup_key and strpos(h.dedup_key, h.openid) > 0;
    end if;
    update notification_history h
    set data = '{}', page = null, extra = null,
        errmsg = case when p_forget_openid then replace(h.errmsg, h.openid, wxnotify_pseudonym(h.appid, h.openid)) else h.errmsg end,
        business_ref = case when p_forget_openid then replace(h.business_ref, h.openid, wxnotify_pseudonym(h.appid, h.openid)) else h.business_ref end,
        dedup_key = case when p_forget_openid then replace(h.dedup_key, h.openid, wxnotify_pseudonym(h.appid, h.openid)) else h.dedup_key end,
        openid = case when p_forget_openid then wxnotify_pseudonym(h.appid, h.openid) else h.openid end
    from unnest(p_ids, p_finished_ats) u (id, finished_at)
    where h.id = u.id and h.finished_at = u.finished_at;
    get diagnostics v_rows = row_count;
    return v_rows;
end $$;

comment on function wxnotify_forget_rows is 'Part of the erasure: rows of the history lose their texts and, if asked, their receiver.';

grant execute on function wxnotify_forget_rows to wxnotify_worker;
