-- When something happens by itself to a row in doubt: a service card is soon read back, a `retry` row is sent again once its window for
-- evidence is over, a `hold` row waits for p_age_secs since it came into doubt. Never later than it expires.
create or replace function wxnotify_doubt_due(p_kind text, p_extra jsonb, p_on_doubt text, p_since timestamptz, p_expire_at timestamptz,
    p_window_secs float8, p_age_secs float8) returns timestamptz
language sql volatile set search_path from current as $$
    select least(case
        when wxnotify_reads_back(p_kind, p_extra) then clock_timestamp() + make_interval(secs => least(p_window_secs, 5) * (1 + random() / 4))
        when p_on_doubt = 'retry' then clock_timestamp() + make_interval(secs => p_window_secs * (1 + random() / 4))
        else p_since + make_interval(secs => p_age_secs) end, p_expire_at)
$$;

comment on function wxnotify_doubt_due is 'When something happens by itself to a row in doubt.';

grant execute on function wxnotify_doubt_due to wxnotify_worker;
