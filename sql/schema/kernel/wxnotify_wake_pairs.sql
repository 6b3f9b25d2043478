-- Makes rows due again that waited for a doubt of their pair to end, as many as can be seen; the others look again within
-- a minute.
create or replace function wxnotify_wake_pairs(p_appid text, p_openids text[], p_template_ids text[]) returns void
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set plan_cache_mode = force_generic_plan as $$
begin
    with woken as (
        select p.id from unnest(p_openids, p_template_ids) u (openid, template_id)
        join pending_notifications p on p.appid = p_appid and p.openid = u.openid and p.template_id = u.template_id
        where p.waiting_for = 'pair' limit 200 for update of p skip locked)
    update pending_notifications p set waiting_for = null, due = wxnotify_next_due(p.held, p.send_at, p.expire_at)
    where p.id = any (array(select woken.id from woken));
    if found then
        perform wxnotify_ring();
    end if;
end $$;

comment on function wxnotify_wake_pairs is 'Makes rows due again that waited for a doubt of their user and template.';

grant execute on function wxnotify_wake_pairs to wxnotify_worker;
