-- The refresh is counted before it is made: one that is lost on the way may have happened.
create or replace function wxnotify_take_forced_refresh(p_appid text, p_claim bigint) returns boolean
language plpgsql volatile set search_path from current as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_today date := (v_now at time zone 'UTC' + interval '8 hours')::date;
begin
    update wechat_access_tokens
       set forced_count = case when forced_on = v_today then forced_count + 1 else 1 end,
           forced_on = v_today, last_forced_at = v_now
     where appid = p_appid and claim = p_claim
       and (forced_on is distinct from v_today or forced_count < 20)
       and (last_forced_at is null or last_forced_at <= v_now - interval '31 seconds');
    return found;
end $$;

comment on function wxnotify_take_forced_refresh is 'Takes one of the 20 forced refreshes of the day in China, at least 30 s after the last. False: none is to be had now.';

grant execute on function wxnotify_take_forced_refresh to wxnotify_worker;
