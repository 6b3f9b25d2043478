-- For 20 seconds an INSERT rings; who goes on sleeping arms it anew (bell_state.sql). What was inserted by transactions that are still
-- open may not ring: poll until they have ended. The commit waits for no disk: a server that crashed has dropped our LISTEN as well.
select setval('notification_bell', extract(epoch from clock_timestamp())::bigint + 20), set_config('synchronous_commit', 'off', true)
