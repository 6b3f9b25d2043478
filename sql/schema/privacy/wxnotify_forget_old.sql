-- Forgets texts (p_book data) or receivers too (openids) of what ended more than p_days ago, at most p_rows rows a call, hour by hour for a tenth of a second.
-- Returns whether it has come as far as it may.
create or replace function wxnotify_forget_old(p_book text, p_days int, p_rows int default 1000) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_book  notification_books;
    v_began timestamptz := clock_timestamp();
    v_goal  timestamptz := date_trunc('hour', clock_timestamp() - make_interval(days => p_days));
    v_from  timestamptz;
    v_until timestamptz;
    v_ids   bigint[];
    v_ats   timestamptz[];
    v_rows  int;
begin
    perform wxnotify_need_read_committed();
    if not exists (select from notification_books b where b.book = p_book) then
        insert into notification_books (book, kept_until, next_until, next_xid, struck_until, struck_id)
        values (p_book, coalesce((select min(h.finished_at) from notification_history h), v_goal), '-infinity', 0, '-infinity', 0) on conflict do nothing;
    end if;
    select * into v_book from notification_books b where b.book = p_book for update skip locked;
    if not found then
        return true;
    end if;
    v_until := date_trunc('hour', v_book.kept_until);
    while v_until < v_goal and clock_timestamp() < v_began + interval '100 milliseconds' loop
        v_from := v_until;
        select array_agg(h.id), array_agg(h.finished_at) into v_ids, v_ats
        from (select x.id, x.finished_at from notification_history x
              where x.finished_at >= v_from and x.finished_at < v_from + interval '1 hour'
                and (p_book = 'data' and (x.data <> '{}' or x.page is not null or x.extra is not null) or p_book = 'openids' and x.openid not like 'erased-%') limit p_rows) h;
        if v_ids is not null then
            perform wxnotify_forget_rows(v_ids, v_ats, p_book = 'openids');
        end if;
        exit when cardinality(v_ids) = p_rows;
        if p_book = 'openids' then
            update wechat_events e set openid = wxnotify_pseudonym(e.appid, e.openid), payload = null
            where e.id = any (array(
                -- The index for retention leads with this.
                select x.id from wechat_events x
                where (case when x.msgid is null then 2 when x.applied_at is null then 1 else 0 end) = any ('{0,1,2}')
                  and x.received_at >= v_from and x.received_at < v_from + interval '1 hour' and x.openid not like 'erased-%' limit p_rows));
            get diagnostics v_rows = row_count;
            exit when v_rows = p_rows;
        end if;
        v_until := v_from + interval '1 hour';
    end loop;
    update notification_books b set kept_until = v_until where b.book = p_book;
    return v_until >= v_goal;
end $$;

comment on function wxnotify_forget_old is 'Forgets texts, or receivers too, of what ended long ago.';

grant execute on function wxnotify_forget_old to wxnotify_worker;
