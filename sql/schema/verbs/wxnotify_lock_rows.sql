-- Locks the rows that nobody else holds and says what each asked-for id is: free, in doubt, in flight, busy (somebody else
-- holds it at this moment), its final status, or not found.
create or replace function wxnotify_lock_rows(p_ids bigint[]) returns table (id bigint, appid text, state text)
language plpgsql volatile set search_path from current set enable_seqscan = off set jit = off as $$
declare
    v_locked bigint[];
begin
    perform wxnotify_need_read_committed();
    if cardinality(p_ids) > 1000 then
        raise exception 'too many rows at once: % ids, at most 1000 a call', cardinality(p_ids)
            using hint = 'Call again with the next 1000 in a transaction of their own, or use the command line.';
    end if;
    v_locked := array(select p.id from pending_notifications p where p.id = any (p_ids) order by p.id for update skip locked);
    -- A later statement: its snapshot is newer than the locks, so a lease either waited for them or is seen here.
    return query
        select u.id, coalesce(p.appid, h.appid),
               case when p.id is null then coalesce(h.status, 'not found')
                    when u.id <> all (v_locked) then 'busy'
                    -- what a lease has settled, while it still holds other rows, is not in flight any more
                    when u.id in (select unnest(l.ids) from notification_leases l)
                         and (p.last_lease is null or (u.id, p.last_lease) not in (
                              select x.id, l.lease_id from notification_leases l cross join lateral unnest(l.ids) x (id))) then 'in flight'
                    when p.in_doubt_since is not null then 'in doubt'
                    else 'free' end
        from (select distinct unnest(p_ids)) u (id)
        left join lateral (select r.id, r.appid, r.last_lease, r.in_doubt_since from pending_notifications r where r.id = u.id limit 1) p on true
        left join lateral (select f.appid, f.status from notification_history f where f.id = u.id limit 1) h on p.id is null
        order by u.id;
end $$;

comment on function wxnotify_lock_rows is 'Locks rows for an operator''s verb and says which of them it may change.';
