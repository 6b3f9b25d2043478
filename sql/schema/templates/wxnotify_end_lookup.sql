create or replace function wxnotify_end_lookup(p_appid text, p_lookup text, p_claim bigint, p_next_secs double precision) returns boolean
language plpgsql volatile set search_path from current as $$
begin
    update wechat_lookups w
    set claimed_by = null, claimed_until = null, done_at = clock_timestamp(), failed_at = null, failures = 0, errcode = null, error = null,
        due_at = clock_timestamp() + p_next_secs * (0.9 + random() / 5) * interval '1 second'
    where w.appid = p_appid and w.lookup = p_lookup and w.claim = p_claim;
    return found;
end $$;

comment on function wxnotify_end_lookup is 'Ends a claim whose question was answered. False: a newer claim has taken its place.';

grant execute on function wxnotify_end_lookup to wxnotify_worker;
