create or replace view notification_blockers as
select b.holds, b.appid, b.pid, b.prepared, b.username, b.application, b.since, b.waiting, b.end_with, b.holds_code
from wxnotify_holders() b;

comment on view notification_blockers is 'Sessions that hold what workers need for more than two seconds: the lock of a mini-program, of the partitions, of the ledger, or a table. Empty while all is well.';
comment on column notification_blockers.holds is 'What: a lock of wxnotify, or tables.';
comment on column notification_blockers.appid is 'The mini-program that sends nothing meanwhile; null: all of them may be concerned.';
comment on column notification_blockers.pid is 'The server process of the session; null: a prepared transaction.';
comment on column notification_blockers.prepared is 'The name of the prepared transaction; null: a session.';
comment on column notification_blockers.username is 'Its database user.';
comment on column notification_blockers.application is 'Its application_name.';
comment on column notification_blockers.since is 'When its transaction began; where that is not this user''s to see, since when somebody waits; null: not known.';
comment on column notification_blockers.waiting is 'How many wait for it at this moment.';
comment on column notification_blockers.end_with is 'What ends it, if its program does not: a superuser, its own user or a member of pg_signal_backend may.';
comment on column notification_blockers.holds_code is 'What, for programs: app_lock, partitions_lock, ledger_lock or tables.';

grant select on notification_blockers to wxnotify_worker;
grant select on notification_blockers to wxnotify_operator;
grant select on notification_blockers to wxnotify_viewer;
