-- Whether this session's server only replays another's changes, and whether its transactions may write at all.
select pg_is_in_recovery(), current_setting('transaction_read_only')::bool
