-- Parks what a user refuses. Rows in flight, in doubt or held, and those that wait for a pause, are left alone: lease and tidy
-- look at refusals themselves.
create or replace function wxnotify_park_refused(p_appid text, p_openid text, p_template_id text) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
declare
    v_ids bigint[];
begin
    v_ids := array(
        select p.id from pending_notifications p
        where p.appid = p_appid and p.openid = p_openid and p.template_id = p_template_id and wxnotify_can_be_refused(p.kind)
          and not p.held and p.in_doubt_since is null and (p.waiting_for is null or p.waiting_for in ('retry', 'user', 'pair'))
        limit 1000 for update skip locked);
    -- A later statement: its snapshot is newer than the locks, so a lease either waited for them or is seen here.
    update pending_notifications p
    set waiting_for = 'refused',
        due = least(greatest(p.due, clock_timestamp() + interval '1 hour' * (0.75 + random() / 2)), p.expire_at)
    where p.id = any (v_ids)
      and not exists (select 1 from notification_leases l
                      where l.appid = p_appid and p.id = any (l.ids) and l.lease_id is distinct from p.last_lease);
end $$;

comment on function wxnotify_park_refused is 'Parks the rows of a user and template until the next accept.';

grant execute on function wxnotify_park_refused to wxnotify_worker;
