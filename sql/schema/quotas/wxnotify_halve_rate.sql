-- Everything in flight meets the same refusal: within half a minute it counts once.
create or replace function wxnotify_halve_rate(p_appid text) returns void
language sql volatile set search_path from current as $$
    update wechat_apps a
    set rate_factor = greatest(wxnotify_rate_factor(a.rate_factor, a.rate_cut_at) / 2, 0.0625), rate_cut_at = clock_timestamp()
    where a.appid = p_appid and (a.rate_cut_at is null or a.rate_cut_at <= clock_timestamp() - interval '30 seconds')
$$;

comment on function wxnotify_halve_rate is 'Halves a mini-program''s rate, at most once in 30 seconds, to a sixteenth at the least.';

grant execute on function wxnotify_halve_rate to wxnotify_worker;
