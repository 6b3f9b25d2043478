-- Settings of one operator's transaction: who acts (operator_actions records it), no just-in-time compilation (the view
-- has many arms and would be compiled for longer than it runs), and a deadline. Local, so that a pooled connection is
-- handed on as it was.
select set_config('wxnotify.actor', $1, true), set_config('jit', 'off', true), set_config('statement_timeout', '60s', true)
