-- Bounds a check's time, in milliseconds. Returns the process first, for whoever must end it.
select pg_backend_pid(), set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true)
