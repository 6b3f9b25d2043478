-- What else follows from a pause that WeChat caused.
create or replace function wxnotify_heed_errcode(p_appid text, p_errcode bigint) returns void
language plpgsql volatile set search_path from current as $$
begin
    if exists (select from wechat_errcodes e where e.errcode = p_errcode and e.halves_rate) then
        perform wxnotify_halve_rate(p_appid);
        perform wxnotify_want_lookup(p_appid, 'quota', 600);
    elsif p_errcode = 45009 then
        -- Not at once: the call that was refused is sure to be over the quota, only later it may not be. And what was asked
        -- before, when calls were left, must not end the pause now: its claim is no longer the latest.
        update wechat_lookups w
        set claim = w.claim + 1, claimed_by = null, claimed_until = null,
            due_at = clock_timestamp() + interval '54 minutes' + random() * interval '12 minutes'
        where w.appid = p_appid and w.lookup = 'quota';
    elsif p_errcode in (40037, 40036, 47003) then
        perform wxnotify_want_lookup(p_appid, 'templates', 600);
    end if;
end $$;

comment on function wxnotify_heed_errcode is 'After an errcode paused a mini-program or template: halves the rate, or brings the question to WeChat forward that the errcode raises.';

grant execute on function wxnotify_heed_errcode to wxnotify_worker;
