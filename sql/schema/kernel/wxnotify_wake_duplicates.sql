-- Makes the losers of dedup keys due again, up to 50 of each that can be had; the others poll, since their due is finite.
create or replace function wxnotify_wake_duplicates(p_appid text, p_keys text[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    with woken as (
        select d.id from unnest(p_keys) u (dedup_key) cross join lateral (
            select id from pending_notifications p
            where p.appid = p_appid and p.dedup_key = u.dedup_key and p.waiting_for = 'duplicate' limit 50 for update skip locked) d)
    update pending_notifications p set waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at)
    where p.id = any (array(select woken.id from woken));
    if found then
        perform wxnotify_ring();
    end if;
end $$;

comment on function wxnotify_wake_duplicates is 'Makes the losers of dedup keys due again.';

grant execute on function wxnotify_wake_duplicates to wxnotify_worker;
