-- The next receivers of a fire after its cursor, in the order of openids. Holders by a loose scan: one probe a user however many credits.
create or replace function wxnotify_next_receivers(s reminder_schedules, p_after text, p_rows int) returns table (openid text, texts jsonb, ref text)
language plpgsql stable set search_path from current set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off
    set enable_mergejoin = off set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
    if s.audience = 'list' then
        return query select a.openid, a.data, a.ref from reminder_audience a where a.schedule_id = s.id and a.openid > p_after order by a.openid limit p_rows;
        return;
    end if;
    return query
        with recursive h as (
            (select q.openid, 1 as n from pending_notifications q
             where q.appid = s.appid and q.template_id = s.template_id and q.held and q.openid > p_after order by q.openid limit 1)
            union all
            select x.openid, h.n + 1 from h cross join lateral (
                select q.openid from pending_notifications q
                where q.appid = s.appid and q.template_id = s.template_id and q.held and q.openid > h.openid order by q.openid limit 1) x
            where h.n < p_rows)
        select h.openid, '{}'::jsonb, null::text from h;
end $$;

comment on function wxnotify_next_receivers is 'The next receivers of a fire.';

grant execute on function wxnotify_next_receivers to wxnotify_worker;
