-- Many sends in flight may ask for the same pause at once. The row is written only if that moves its end by more
-- than a second, so they do not queue up for its lock, and a rule's jitter does not move it further each time.
create or replace function wxnotify_pause_app(p_appid text, p_secs double precision, p_rule text, p_reason text, p_errcode bigint) returns boolean
language plpgsql volatile set search_path from current as $$
declare
    v_earliest timestamptz := wxnotify_pause_end(p_secs, p_rule, false);
    v_until    timestamptz := wxnotify_pause_end(p_secs, p_rule, true);
begin
    update wechat_apps
       set paused_until  = greatest(paused_until, v_until),
           pause_reason  = case when paused_until >= v_until then pause_reason else p_reason end,
           pause_errcode = case when paused_until >= v_until then pause_errcode else p_errcode end,
           probing       = true
     where appid = p_appid
       and (not probing or paused_until is null or v_earliest > paused_until + interval '1 second'
            or (v_earliest = 'infinity' and paused_until < 'infinity'));
    if not found then
        return exists (select from wechat_apps where appid = p_appid);
    end if;
    perform wxnotify_heed_errcode(p_appid, p_errcode);
    return true;
end $$;

comment on function wxnotify_pause_app is 'Pauses a mini-program for seconds or until a rule''s time, never shortening a pause; afterwards one row is tried first. False: it is not registered.';

grant execute on function wxnotify_pause_app to wxnotify_worker;
