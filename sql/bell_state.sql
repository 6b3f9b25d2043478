-- Whether the bell is still armed, and the oldest transaction still running.
select (select last_value from notification_bell) > 0, pg_snapshot_xmin(pg_current_snapshot())::text::bigint
