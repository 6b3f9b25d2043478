-- The same user has the same place in each fire of a schedule.
create or replace function wxnotify_spread_of(p_schedule_id bigint, p_openid text, p_spread interval) returns interval
language sql immutable set search_path from current as $$
    select case when p_spread > '0' then make_interval(secs => ((hashtextextended(p_openid, p_schedule_id) & 2147483647) % greatest((extract(epoch from p_spread) * 1000)::bigint, 1)) / 1000.0)
        else interval '0' end
$$;

comment on function wxnotify_spread_of is 'How long after the fire a user''s message is due.';

grant execute on function wxnotify_spread_of to wxnotify_worker;
