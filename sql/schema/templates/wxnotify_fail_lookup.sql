-- How long after the p_failures-th failure in a row it is asked again: by WeChat's rule when its quota is used up, else 1, 2, 4 … minutes,
-- at most 6 hours, with a quarter of jitter.
create or replace function wxnotify_fail_lookup(p_appid text, p_lookup text, p_claim bigint, p_errcode bigint, p_error text) returns timestamptz
language sql volatile set search_path from current as $$
    update wechat_lookups w
    set claimed_by = null, claimed_until = null, failed_at = clock_timestamp(), failures = least(w.failures + 1, 1000),
        errcode = p_errcode, error = left(p_error, 500),
        due_at = case when p_errcode = 45009 then wxnotify_pause_end(null, 'china_midnight', true)
                      else clock_timestamp() + least(60 * 2.0 ^ least(w.failures, 20), 21600) * (0.75 + random() / 2) * interval '1 second' end
    where w.appid = p_appid and w.lookup = p_lookup and w.claim = p_claim
    returning w.due_at
$$;

comment on function wxnotify_fail_lookup is 'Ends a claim whose question failed and says when it is asked again: at 00:00 China time after 45009, else after a wait that doubles.';

grant execute on function wxnotify_fail_lookup to wxnotify_worker;
