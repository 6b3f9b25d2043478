-- An event is stored once for each entry of its List, so what stands beside the List is stored as often. WeChat's events are a few hundred
-- bytes; of anything else the texts are cut, then whole fields left out, until 4 KB hold it. "cut" then says so.
create or replace function wxnotify_bound_payload(p_payload jsonb) returns jsonb
language sql immutable set search_path from current as $$
    select case when octet_length(p_payload::text) <= 4096 then p_payload else (
        select coalesce(jsonb_object_agg(f.key, f.value) filter (where f.total <= 3000), '{}') || '{"cut": true}'
        from (
            select e.key, e.value, sum(octet_length(e.key) + octet_length(e.value::text) + 6) over (order by e.rank, e.key) as total
            from (
                select left(p.key, 100) as key,
                       -- what is known of an event first
                       case when p.key in ('Event', 'CreateTime', 'FromUserName', 'ToUserName', 'MsgType', 'List', 'openid', 'notify_type', 'notify_code',
                                           'card_status', 'fail_ret', 'fail_msg', 'event_type', 'punish_id', 'punish_time', 'illegal_reason', 'rule_name')
                            then 0 else 1 end as rank,
                       case jsonb_typeof(p.value)
                           when 'string' then to_jsonb(left(p.value #>> '{}', 500))
                           when 'object' then (select coalesce(jsonb_object_agg(left(i.key, 100), left(i.value #>> '{}', 300)), '{}')
                                               from (select * from jsonb_each(p.value) order by key limit 10) i)
                           else case when octet_length(p.value::text) <= 500 then p.value end end as value
                from jsonb_each(p_payload) p) e
            where e.value is not null) f) end
$$;

comment on function wxnotify_bound_payload is 'An event''s payload in at most 4 KB.';

grant execute on function wxnotify_bound_payload to wxnotify_worker;
