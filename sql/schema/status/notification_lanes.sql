create or replace view notification_lanes as
select l.appid, l.lane, l.front, l.app_is_paused from wxnotify_lanes() l;

comment on view notification_lanes is 'Mini-programs and lanes that have rows not yet final; wxnotify''s own.';
comment on column notification_lanes.appid is 'The mini-program.';
comment on column notification_lanes.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notification_lanes.front is 'When the first of its rows is or was due.';
comment on column notification_lanes.app_is_paused is 'The mini-program is paused or not registered.';

grant select on notification_lanes to wxnotify_worker;
grant select on notification_lanes to wxnotify_operator;
grant select on notification_lanes to wxnotify_viewer;
