-- From now on an INSERT rings. What was inserted by transactions that are still open may not: poll until they have ended.
select setval('notification_bell', 1)
