-- A busy worker needs no bell; another that sleeps looks at it every two seconds and arms it again.
select setval('notification_bell', 0)
