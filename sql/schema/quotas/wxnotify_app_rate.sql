-- In plpgsql, which keeps its plan: each lease of a mini-program with a rate asks. What quota/get names is not used to the last call: a second's burst would go over it.
create or replace function wxnotify_app_rate(p_appid text) returns real
language plpgsql stable set search_path from current as $$
begin
    return (select (coalesce(a.rate_per_second, a.quota_rate_per_second * 0.95) * wxnotify_rate_factor(a.rate_factor, a.rate_cut_at))::real
    from wechat_apps a where a.appid = p_appid);
end $$;

comment on function wxnotify_app_rate is 'Sends per second of a mini-program now: the operator''s rate, else 95 % of quota/get''s, less what a halving took; null: no limit is known.';

grant execute on function wxnotify_app_rate to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
