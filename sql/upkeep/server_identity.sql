-- Changes when the server was restarted or another was promoted: what a worker remembers of leases is then void.
select extract(epoch from pg_postmaster_start_time())::float8::text || '/' || (select timeline_id from pg_control_checkpoint())::text
