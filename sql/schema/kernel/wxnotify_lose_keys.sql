-- Rows that lost their dedup key, locked by the caller: while the winner is pending they wait (a finite while); when it
-- is gone and its key stands it was sent, and they end as duplicates.
create or replace function wxnotify_lose_keys(p_appid text, p_ids bigint[], p_winners bigint[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off
    set enable_mergejoin = off set plan_cache_mode = force_generic_plan as $$
declare
    v_now       timestamptz := clock_timestamp();
    v_ids       bigint[];
    v_winners   bigint[];
begin
    select array_agg(u.id), array_agg(u.winner) into v_ids, v_winners
    from unnest(p_ids, p_winners) u (id, winner)
    cross join lateral (select r.dedup_key, r.in_doubt_since from pending_notifications r where r.id = u.id limit 1) p
    where (select k.id from notification_keys k where k.appid = p_appid and k.dedup_key = p.dedup_key) = u.winner
      and (select w.id from pending_notifications w where w.id = u.winner) is null
      and p.in_doubt_since is null;
    if v_ids is not null then
        perform wxnotify_finish_carefully(p_appid, v_ids, array_fill('duplicate'::text, array[cardinality(v_ids)]), 'worker', null, p_duplicate_of => v_winners);
    end if;
    -- Between a second and a minute, by the winner's own due time.
    update pending_notifications p
    set waiting_for = 'duplicate',
        due = least(v_now + greatest(least(least(u.at, v_now + interval '1 day') - v_now, '1 minute'), '1 second') * (0.75 + random() / 2), p.expire_at)
    from (select l.tid, (select w.due from pending_notifications w where w.id = u.winner) as at
          from unnest(p_ids, p_winners) u (id, winner)
          cross join lateral (select r.ctid as tid from pending_notifications r where r.id = u.id limit 1) l
          where v_ids is null or u.id <> all (v_ids)) u
    where p.ctid = u.tid;
end $$;

comment on function wxnotify_lose_keys is 'Parks rows that lost a dedup key, or ends them as duplicates.';

grant execute on function wxnotify_lose_keys to wxnotify_worker;
