create or replace function wxnotify_claim_lookup(p_appid text, p_lookup text, p_worker text, p_claim_secs double precision) returns bigint
language sql volatile set search_path from current as $$
    insert into wechat_lookups as w (appid, lookup, claim, claimed_by, claimed_until)
    values (p_appid, p_lookup, 1, p_worker, clock_timestamp() + p_claim_secs * interval '1 second')
    on conflict (appid, lookup) do update set claim = w.claim + 1, claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until
    returning w.claim
$$;

comment on function wxnotify_claim_lookup is 'Claims one question at once, for an operator who wants the answer now; an answer under an older claim changes nothing.';

grant execute on function wxnotify_claim_lookup to wxnotify_worker;
