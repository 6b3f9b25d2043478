create or replace view notifications_in_flight as
select p.id, p.appid, l.lease_id, l.worker, l.started_at, l.expires_at
from notification_leases l
cross join lateral unnest(l.ids) as leased (id)
-- a row that its lease has settled already, while the lease still holds others, is not in flight any more
join pending_notifications p on p.id = leased.id and p.last_lease is distinct from l.lease_id
where l.started_at is not null;

comment on view notifications_in_flight is 'Rows that may be on their way to WeChat: their lease is started and has not settled them.';
comment on column notifications_in_flight.id is 'The notification.';
comment on column notifications_in_flight.appid is 'The mini-program.';
comment on column notifications_in_flight.lease_id is 'The lease that holds it.';
comment on column notifications_in_flight.worker is 'Worker name and epoch.';
comment on column notifications_in_flight.started_at is 'The durable record before the first send of the lease.';
comment on column notifications_in_flight.expires_at is 'When the lease lapses: an unsettled row is in doubt then.';

grant select on notifications_in_flight to wxnotify_worker;
grant select on notifications_in_flight to wxnotify_operator;
grant select on notifications_in_flight to wxnotify_viewer;
