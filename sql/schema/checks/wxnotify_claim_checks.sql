-- What is to be asked, by check and mini-program: at most p_rows of each mini-program, claimed for 15 seconds. Not more than can go out before their
-- answer is stale: half of what its rate sends in that time.
create or replace function wxnotify_claim_checks(p_rows int)
returns table (check_name text, function_name text, fault text, appid text, ids bigint[], refs text[])
language plpgsql volatile set search_path from current set gin_fuzzy_search_limit = 20784 set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_timestamp();
begin
    return query
        with recursive apps as (
            (select p.appid from pending_notifications p where p.waiting_for = 'check' order by p.appid limit 1)
            union all
            select x.appid from apps cross join lateral (
                select p.appid from pending_notifications p where p.waiting_for = 'check' and p.appid > apps.appid order by p.appid limit 1) x),
        chosen as materialized (
            select w.id from apps
            left join wechat_apps a on a.appid = apps.appid
            cross join lateral (
                select p.id from pending_notifications p
                where p.waiting_for = 'check' and p.appid = apps.appid and p.check_at <= v_now and (p.expire_at is null or p.expire_at > v_now)
                order by p.check_at
                limit least(p_rows, greatest(coalesce(ceil(a.rate_per_second * 5), p_rows)::bigint - (
                    select count(*) from (select 1 from pending_notifications q where q.appid = apps.appid and q.checked_at > v_now - interval '10 seconds' limit p_rows) x), 0))
                for update skip locked) w),
        claimed as (
            update pending_notifications p set check_at = v_now + interval '15 seconds'
            where p.id = any (array(select c.id from chosen c))
            returning p.id, p.appid, p.schedule_id, p.business_ref)
        select x.check_name, c.function_name,
               case when c.name is null then 'there is no such check; an operator adds it: select add_check(name, function)' else wxnotify_check_fault(c.function_name) end,
               x.appid, x.ids, x.refs
        from (select wxnotify_check_of(s) as check_name, m.appid, array_agg(m.id order by m.id) as ids, array_agg(m.business_ref order by m.id) as refs
              from claimed m left join reminder_schedules s on s.id = m.schedule_id group by 1, 2) x
        left join reminder_checks c on c.name = x.check_name;
end $$;

comment on function wxnotify_claim_checks is 'Claims rows whose check is to be asked now, by check and mini-program.';

grant execute on function wxnotify_claim_checks to wxnotify_worker;
