create or replace view wechat_punishments as
select e.id, e.appid, p.punished_at, p.event_type,
       case p.event_type when '1' then 'warning' when '2' then 'functions banned' when '3' then 'delisted' when '4' then 'account banned'
                         when '5' then 'page banned' when '10' then 'page banned' else 'punishment of type ' || coalesce(p.event_type, '?') end as punishment,
       left(e.payload ->> 'illegal_reason', 500) as reason, left(e.payload ->> 'rule_name', 200) as rule_name,
       left(e.payload ->> 'banned_function_names', 500) as banned_functions, left(e.payload ->> 'banned_days', 20) as banned_days,
       left(e.payload ->> 'rule_url', 500) as rule_url, left(e.payload ->> 'adjust_guide_url', 500) as adjust_guide_url,
       left(e.payload ->> 'punish_id', 100) as punish_id, e.received_at, e.applied_at as announced_at
from wechat_events e
cross join lateral (
    select left(e.payload ->> 'event_type', 10) as event_type,
           case when e.payload ->> 'punish_time' ~ '^[0-9]{9,10}$' then to_timestamp((e.payload ->> 'punish_time')::float8) else e.occurred_at end as punished_at) p
where e.event = 'wxa_punish_event';

comment on view wechat_punishments is 'What WeChat punished a mini-program for, as its wxa_punish_event says; the whole event is in wechat_events.payload.';
comment on column wechat_punishments.id is 'The event''s id in wechat_events.';
comment on column wechat_punishments.appid is 'The mini-program.';
comment on column wechat_punishments.punished_at is 'When WeChat punished it.';
comment on column wechat_punishments.event_type is 'WeChat''s number for the kind of punishment.';
comment on column wechat_punishments.punishment is 'What that number means: warning, functions banned, delisted, account banned, page banned.';
comment on column wechat_punishments.reason is 'WeChat''s reason.';
comment on column wechat_punishments.rule_name is 'The rule that was broken.';
comment on column wechat_punishments.banned_functions is 'The functions that are banned, as WeChat names them.';
comment on column wechat_punishments.banned_days is 'For how many days.';
comment on column wechat_punishments.rule_url is 'Where the rule is written.';
comment on column wechat_punishments.adjust_guide_url is 'Where WeChat says what to change.';
comment on column wechat_punishments.punish_id is 'WeChat''s number for it, to appeal by.';
comment on column wechat_punishments.received_at is 'When the event came.';
comment on column wechat_punishments.announced_at is 'When a worker''s log told of it; null: not yet.';

grant select on wechat_punishments to wxnotify_worker;
grant select on wechat_punishments to wxnotify_operator;
grant select on wechat_punishments to wxnotify_viewer;
