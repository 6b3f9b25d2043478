create or replace view notification_backlog as
select b.appid, b.app, b.lane, b.status, b.rows, b.oldest_due, b.more from wxnotify_backlog() b;

comment on view notification_backlog is 'How many rows wait, by app, lane and status. Its cost is bounded: of each app and lane the 10,000 that are due first are counted.';
comment on column notification_backlog.appid is 'The mini-program.';
comment on column notification_backlog.app is 'Its name; null for an unknown app too.';
comment on column notification_backlog.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column notification_backlog.status is 'As in notifications.';
comment on column notification_backlog.rows is 'How many of the rows looked at.';
comment on column notification_backlog.oldest_due is 'Since when the oldest of them has been due.';
comment on column notification_backlog.more is 'True: the app and lane may hold more rows than were looked at.';

grant select on notification_backlog to wxnotify_worker;
grant select on notification_backlog to wxnotify_operator;
grant select on notification_backlog to wxnotify_viewer;
