select name, epoch, version, appids, started_at, heartbeat_at, in_flight from notification_workers_live order by name, epoch
