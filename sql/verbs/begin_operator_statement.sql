-- Settings of one operator's transaction: who acts (operator_actions records it), no just-in-time compilation (the view
-- has many arms and would be compiled for longer than it runs), a deadline, and in the console the person, their role, and the zone in which sentences name times.
-- Local, so that a pooled connection is handed on as it was. $1 actor, $2 deadline, $3 person or empty, $4 role or null, $5 zone or null
select set_config('wxnotify.actor', $1, true), set_config('jit', 'off', true), set_config('statement_timeout', $2, true),
       set_config('wxnotify.person', $3, true), set_config('role', coalesce($4, current_setting('role')), true), set_config('TimeZone', coalesce($5, current_setting('TimeZone')), true)
