-- Lists what ended since the last call and still has no receipt an hour later, for a tenth of a second a call or one hour of history, and strikes out of p_rows
-- entries those that were confirmed. Returns whether it has come as far as it may. One transaction, so a crash neither lists
-- twice nor skips.
--
-- A row is dated by the clock when its transaction has its number, or a moment before. So when every transaction that had begun
-- at some time has ended, no row dated before it can appear any more; a minute is left for that moment and for clocks set back.
create or replace function wxnotify_keep_unconfirmed(p_rows int default 10000) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_book  notification_books;
    v_xmin  bigint := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;
    v_xmax  bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    v_began timestamptz := clock_timestamp();
    v_from  timestamptz;
    v_until timestamptz;
    v_goal  timestamptz;
    v_is_done boolean := true;
    v_last    notification_unconfirmed_ids;
begin
    perform wxnotify_need_read_committed();
    if not exists (select from notification_books b where b.book = 'unconfirmed') then
        insert into notification_books (book, kept_until, next_until, next_xid, struck_until, struck_id)
        values ('unconfirmed', '-infinity', '-infinity', 0, '-infinity', 0) on conflict do nothing;
    end if;
    select * into v_book from notification_books b where b.book = 'unconfirmed' for update skip locked;
    if not found then
        return true;
    end if;
    -- What ended before the first receipt of any mini-program is not asked for.
    v_book.kept_until := greatest(v_book.kept_until, (select min(a.first_receipt_at) from wechat_apps a));
    v_until := v_book.kept_until;
    if v_book.next_xid <= v_xmin and v_book.next_until > '-infinity' then
        v_goal := v_book.next_until - interval '61 minutes';
        -- No mini-program has a receipt yet: there is nothing to ask for, and no hour to begin with.
        if v_until = '-infinity' then
            v_until := v_goal;
        end if;
        while v_until < v_goal and clock_timestamp() < v_began + interval '100 milliseconds' loop
            v_from := v_until;
            v_until := least(v_goal, v_from + interval '1 hour');
            insert into notification_unconfirmed_ids (finished_at, id)
            select h.finished_at, h.id
            from notification_history h
            join wechat_apps a on a.appid = h.appid and h.finished_at >= a.first_receipt_at
            where h.finished_at >= v_from and h.finished_at < v_until
              and h.status = 'sent' and h.msgid is not null and h.receipt_at is null
            on conflict do nothing;
        end loop;
        v_is_done := v_until >= v_goal;
    end if;
    -- A number from the future is another server's: this database was restored.
    if v_is_done and v_book.next_xid <= v_xmin or v_book.next_xid > v_xmax then
        v_book.next_until := statement_timestamp();  -- not later than the snapshot
        -- Not the snapshot's xmax: a transaction that runs may have that very number, or a later one.
        v_book.next_xid := pg_current_xact_id()::text::bigint;
    end if;
    with looked as materialized (
        select u.finished_at, u.id from notification_unconfirmed_ids u where (u.finished_at, u.id) > (v_book.struck_until, v_book.struck_id)
        order by u.finished_at, u.id limit p_rows),
    struck as (
        delete from notification_unconfirmed_ids u using looked l
        where u.finished_at = l.finished_at and u.id = l.id
          and not exists (select from notification_history h where h.id = u.id and h.finished_at = u.finished_at and h.receipt_at is null))
    select l.finished_at, l.id into v_last.finished_at, v_last.id from looked l order by l.finished_at desc, l.id desc limit 1;
    update notification_books b
    set kept_until = v_until, next_until = v_book.next_until, next_xid = v_book.next_xid,
        struck_until = coalesce(v_last.finished_at, '-infinity'), struck_id = coalesce(v_last.id, 0)
    where b.book = 'unconfirmed';
    return v_is_done;
end $$;

comment on function wxnotify_keep_unconfirmed is 'Lists what WeChat did not confirm within an hour, for notification_unconfirmed, and strikes out what it has confirmed since.';

grant execute on function wxnotify_keep_unconfirmed to wxnotify_worker;
