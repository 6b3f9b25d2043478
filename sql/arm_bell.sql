-- From now on an INSERT rings. What was inserted by transactions that are still open may not: poll until they have ended.
-- The commit waits for no disk: a server that crashed has dropped our LISTEN as well, and then the bell is armed anew.
select setval('notification_bell', 1), set_config('synchronous_commit', 'off', true)
