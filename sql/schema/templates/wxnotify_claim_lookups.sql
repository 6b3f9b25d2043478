create or replace function wxnotify_claim_lookups(p_appids text[], p_worker text, p_claim_secs double precision)
returns table (appid text, lookup text, claim bigint)
language plpgsql volatile set search_path from current as $$
#variable_conflict use_column
begin
    insert into wechat_lookups (appid, lookup)
    select a.appid, l.lookup from wechat_apps a cross join (values ('templates'), ('quota')) l (lookup)
    where a.appid = any (p_appids) and not exists (select from wechat_lookups k where k.appid = a.appid and k.lookup = l.lookup)
    on conflict do nothing;
    return query
        update wechat_lookups w
        set claim = w.claim + 1, claimed_by = p_worker, claimed_until = clock_timestamp() + p_claim_secs * interval '1 second'
        from (select k.appid, k.lookup from wechat_lookups k
              where k.appid = any (p_appids) and k.due_at <= clock_timestamp()
                and (k.claimed_until is null or k.claimed_until <= clock_timestamp())
              order by k.due_at limit 16 for update skip locked) d
        where w.appid = d.appid and w.lookup = d.lookup
        returning w.appid, w.lookup, w.claim;
end $$;

comment on function wxnotify_claim_lookups is 'Claims the questions that are due, at most 16 of these mini-programs; others respect the claim for so many seconds.';

grant execute on function wxnotify_claim_lookups to wxnotify_worker;
