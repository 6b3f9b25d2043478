-- What the server is and how it is set, as any user may see it; clock is compared with the caller's.
select current_setting('server_version') as version, current_setting('server_version_num')::int as version_number, pg_is_in_recovery() as is_standby,
       current_setting('fsync')::bool as fsync, current_setting('full_page_writes')::bool as full_page_writes,
       current_setting('default_transaction_isolation') as isolation,
       current_setting('autovacuum')::bool and current_setting('track_counts')::bool as autovacuum,
       coalesce((select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()), false) as encrypted,
       (select age(d.datfrozenxid)::bigint from pg_database d where d.datname = current_database()) as transaction_ids_used,
       (select count(*) from pg_stat_activity a where a.datid is not null) as connections,
       current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint as connections_max,
       clock_timestamp() as clock
