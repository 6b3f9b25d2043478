-- Whether rows wait for a check. One probe of an index.
select wxnotify_checks_wait()
