-- A busy worker needs no bell; another that sleeps looks at it every two seconds and arms it again. The commit waits for no
-- disk: a bell that a crash leaves armed rings in vain, for some seconds.
select setval('notification_bell', 0), set_config('synchronous_commit', 'off', true)
