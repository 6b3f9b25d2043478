create or replace view notification_workers_live as
select w.name, w.epoch, w.version, w.appids, w.started_at, w.heartbeat_at, statement_timestamp() - w.heartbeat_at as silent_for, w.in_flight
from notification_workers w
where w.stopped_at is null and w.heartbeat_at > statement_timestamp() - interval '1 minute';

comment on view notification_workers_live is 'Workers that gave a sign of life in the last minute and did not stop.';
comment on column notification_workers_live.name is 'WXNOTIFY_WORKER.';
comment on column notification_workers_live.epoch is 'Tells two starts of one name apart.';
comment on column notification_workers_live.version is 'Version of the program.';
comment on column notification_workers_live.appids is 'Mini-programs whose secret it has.';
comment on column notification_workers_live.started_at is 'When it started.';
comment on column notification_workers_live.heartbeat_at is 'Its last sign of life.';
comment on column notification_workers_live.silent_for is 'Time since then.';
comment on column notification_workers_live.in_flight is 'Sends in flight at that moment.';

grant select on notification_workers_live to wxnotify_worker;
grant select on notification_workers_live to wxnotify_operator;
grant select on notification_workers_live to wxnotify_viewer;
