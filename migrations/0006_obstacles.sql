-- A row whose move to the history the database refuses, because of somebody's foreign key, trigger or rule, waits for that to go:
-- waiting_for = 'obstacle'. Such a row may be past its expire_at, and is looked at later all the same. Rows that are there are looked
-- at afterwards (0007), without a lock that producers would wait for.

alter table pending_notifications
    drop constraint waiting_for_is_known,
    drop constraint due_is_not_past_expire_at,
    add constraint waiting_for_is_known check (waiting_for in ('retry', 'user', 'pair', 'template', 'app', 'doubt', 'duplicate', 'refused', 'login', 'obstacle')) not valid,
    add constraint due_is_not_past_expire_at check (due <= expire_at or waiting_for is not distinct from 'obstacle') not valid;

comment on column pending_notifications.due is 'wxnotify''s: the next moment something must happen, at most expire_at (but for obstacles); infinity for a held row without expire_at.';
comment on column pending_notifications.waiting_for is 'wxnotify''s: why it is not sent now: retry, user (another message to the user), pair (a doubt of the same user and template), template, app, doubt, duplicate, refused (the user''s next accept), login (its login_code is not exchanged) or obstacle (the database refuses to move it to the history: a foreign key, trigger or rule that is not wxnotify''s).';
