-- Stores the answer to quota/get. A pause for 45009 ends when calls are left again; one row is tried first. While it lasts the
-- question is asked every hour, otherwise every day. False: a newer claim has taken the place of p_claim.
create or replace function wxnotify_store_quota(p_appid text, p_claim bigint, p_daily_limit bigint, p_used bigint, p_remaining bigint, p_rate_per_second real)
returns boolean
language plpgsql volatile set search_path from current as $$
declare
    v_used_up boolean;
begin
    select a.pause_errcode = 45009 and a.paused_until > clock_timestamp() into v_used_up from wechat_apps a where a.appid = p_appid for update;
    if not wxnotify_end_lookup(p_appid, 'quota', p_claim, case when v_used_up and p_remaining <= 0 then 3600 else 86400 end) then
        return false;
    end if;
    update wechat_apps a
    set quota_daily_limit = p_daily_limit, quota_used = p_used, quota_remaining = p_remaining,
        quota_rate_per_second = case when p_rate_per_second > 0 then p_rate_per_second end, quota_read_at = clock_timestamp(),
        paused_until = case when v_used_up and p_remaining > 0 then clock_timestamp() else a.paused_until end,
        probing = a.probing or coalesce(v_used_up and p_remaining > 0, false)
    where a.appid = p_appid;
    if v_used_up and p_remaining > 0 then
        perform wxnotify_lock_app(p_appid);
        perform wxnotify_unpark(p_appid, null, 'app', 1000);
    end if;
    return true;
end $$;

comment on function wxnotify_store_quota is 'Stores what quota/get says of sends: limit, used, left and rate. Ends a pause for 45009 when calls are left.';

grant execute on function wxnotify_store_quota to wxnotify_worker;
