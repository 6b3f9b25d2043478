-- What the server is and how it is set, as any user may see it; clock is compared with the caller's. Our sessions have an isolation
-- level of their own: asked is the others'.
select current_setting('server_version') as version, current_setting('server_version_num')::int as version_number, pg_is_in_recovery() as is_standby,
       current_setting('fsync')::bool as fsync, current_setting('full_page_writes')::bool as full_page_writes,
       (select s.reset_val from pg_settings s where s.name = 'default_transaction_isolation') as isolation,
       current_setting('autovacuum')::bool and current_setting('track_counts')::bool as autovacuum,
       coalesce((select s.ssl from pg_stat_ssl s where s.pid = pg_backend_pid()), false) as encrypted,
       (select age(d.datfrozenxid)::bigint from pg_database d where d.datname = current_database()) as transaction_ids_used,
       (select count(*) from pg_stat_activity a where a.datid is not null) as connections,
       current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint as connections_max,
       current_setting('default_transaction_read_only')::bool as read_only,
       (select r.rolconnlimit::bigint from pg_roles r where r.rolname = session_user and not r.rolsuper and r.rolconnlimit >= 0) as role_connections_max,
       (select count(*) from pg_stat_activity a where a.usename = session_user) as role_connections,
       (select d.datconnlimit::bigint from pg_database d where d.datname = current_database() and d.datconnlimit >= 0) as database_connections_max,
       (select count(*) from pg_stat_activity a where a.datname = current_database()) as database_connections,
       current_setting('server_encoding') as encoding,
       clock_timestamp() as clock
