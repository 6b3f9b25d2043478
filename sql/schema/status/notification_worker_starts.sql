-- notification_workers_live shows who lives; this one who does not, too.
create or replace view notification_worker_starts as
select w.name, w.epoch, case when w.stopped_at is not null then 'stopped' when w.heartbeat_at > statement_timestamp() - interval '1 minute' then 'live' else 'silent' end as state,
       w.version, w.appids, w.started_at, w.heartbeat_at, w.stopped_at, w.in_flight
from notification_workers w
where coalesce(w.stopped_at, w.heartbeat_at) > statement_timestamp() - interval '1 day';

comment on view notification_worker_starts is 'Workers that lived within the last day, one row a start.';
comment on column notification_worker_starts.name is 'WXNOTIFY_WORKER.';
comment on column notification_worker_starts.epoch is 'Tells starts of one name apart.';
comment on column notification_worker_starts.state is 'live; stopped in order; or silent: no sign of life for a minute, so it died, is cut off, or its machine stands still.';
comment on column notification_worker_starts.version is 'Version of the program.';
comment on column notification_worker_starts.appids is 'Mini-programs whose secret it has.';
comment on column notification_worker_starts.started_at is 'When it started.';
comment on column notification_worker_starts.heartbeat_at is 'Its last sign of life.';
comment on column notification_worker_starts.stopped_at is 'When it stopped in order.';
comment on column notification_worker_starts.in_flight is 'Sends in flight at its last sign of life.';

grant select on notification_worker_starts to wxnotify_worker;
grant select on notification_worker_starts to wxnotify_operator;
grant select on notification_worker_starts to wxnotify_viewer;
