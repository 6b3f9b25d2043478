-- Makes rows due again that waited for their user's next accept; one that somebody holds looks again by itself.
create or replace function wxnotify_wake_refused(p_appid text, p_openid text, p_template_id text) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    with woken as (
        select p.id from pending_notifications p
        where p.appid = p_appid and p.openid = p_openid and p.template_id = p_template_id and p.waiting_for = 'refused'
        limit 1000 for update skip locked)
    update pending_notifications p set waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at)
    where p.id = any (array(select woken.id from woken));
    if found then
        perform wxnotify_ring();
    end if;
end $$;

comment on function wxnotify_wake_refused is 'Makes rows due again that waited for their user''s next accept.';

grant execute on function wxnotify_wake_refused to wxnotify_worker;
