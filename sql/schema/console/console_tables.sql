-- The console's login reads and writes people and sessions, and nothing else by itself: what a page asks runs as the person's role.
grant select, insert, update, delete on console_users, console_sessions, console_tries to wxnotify_console;
grant select on operator_batches to wxnotify_console;
grant select on operator_batches, operator_batch_rows to wxnotify_operator;
