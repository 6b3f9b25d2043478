-- Taken in a statement after arming: once every transaction older than this has ended, no INSERT can have missed the bell.
select pg_snapshot_xmax(pg_current_snapshot())::text::bigint
