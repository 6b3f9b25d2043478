-- Ids that were given and that their sequence does not know of, as after a copy of rows without it: it would give them again.
with given (table_name, column_name, highest) as (
    select 'pending_notifications', 'id', greatest((select max(id) from pending_notifications), (select max(id) from notification_history))
    union all select 'notification_leases', 'lease_id', (select max(lease_id) from notification_leases)
    union all select 'notification_workers', 'epoch', (select max(epoch) from notification_workers)
    union all select 'wechat_events', 'id', (select max(id) from wechat_events)
    union all select 'operator_actions', 'id', (select max(id) from operator_actions)
)
select table_name, column_name, highest
from given
where highest > coalesce(pg_sequence_last_value(pg_get_serial_sequence(table_name, column_name)::regclass), 0)
