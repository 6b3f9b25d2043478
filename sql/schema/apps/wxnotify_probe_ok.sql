create or replace function wxnotify_probe_ok(p_appid text) returns boolean
language plpgsql volatile set search_path from current as $$
begin
    update wechat_apps
       set probing = false, paused_until = null, pause_reason = null, pause_errcode = null
     where appid = p_appid and probing
       and (paused_until is null or paused_until <= clock_timestamp());
    return found;
end $$;

comment on function wxnotify_probe_ok is 'The probe of a mini-program got a sound answer: ends probing and the pause that has lapsed. A pause that still runs stays.';

grant execute on function wxnotify_probe_ok to wxnotify_worker;
