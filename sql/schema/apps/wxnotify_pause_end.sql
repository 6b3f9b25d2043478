-- When a pause ends: a span from now, or a rule. `jittered` is false for the earliest end that the rule allows.
create or replace function wxnotify_pause_end(p_secs double precision, p_rule text, p_jittered boolean) returns timestamptz
language plpgsql volatile set search_path from current as $$
declare
    v_now timestamptz := clock_timestamp();
begin
    if num_nonnulls(p_secs, p_rule) <> 1 then
        raise exception 'a pause has either seconds or a rule (operator, china_midnight, next_minute)' using errcode = '22023';
    end if;
    return case
        when p_secs is not null then v_now + least(greatest(p_secs, 0), 31536000) * interval '1 second'
        when p_rule = 'operator' then 'infinity'
        when p_rule = 'china_midnight' then
            (date_trunc('day', v_now at time zone 'UTC' + interval '8 hours') + interval '16 hours') at time zone 'UTC'
            + case when p_jittered then random() * interval '60 seconds' else interval '0' end
        when p_rule = 'next_minute' then
            date_trunc('minute', v_now) + interval '61 seconds'
            + case when p_jittered then random() * interval '9 seconds' else interval '0' end
        else wxnotify_refuse_pause_rule(p_rule)
    end;
end $$;

comment on function wxnotify_pause_end is 'When a pause that begins now ends: after seconds, or by a rule: operator, china_midnight or next_minute.';

grant execute on function wxnotify_pause_end to wxnotify_worker;
