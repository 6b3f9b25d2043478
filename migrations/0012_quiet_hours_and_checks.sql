-- Quiet hours, checks whether a reminder is still true, and an operator's word before a reminder goes to many.

alter table pending_notifications
    add column check_at timestamptz,
    add column checked_at timestamptz,
    drop constraint waiting_for_is_known,
    add constraint waiting_for_is_known check (
        waiting_for in ('retry', 'user', 'pair', 'template', 'app', 'doubt', 'duplicate', 'refused', 'login', 'obstacle', 'reminder', 'quiet', 'check')) not valid;
comment on column pending_notifications.waiting_for is 'wxnotify''s: why it is not sent now: retry, user (another message to the user), pair (a doubt of the same user and template), template, app, doubt, duplicate, refused (the user''s next accept), login (its login_code is not exchanged), obstacle (the database refuses to move it to the history: a foreign key, trigger or rule that is not wxnotify''s), reminder (its schedule is paused or being changed, or its credit is in use), quiet (the end of quiet hours) or check (the business is asked whether it is still true).';
comment on column pending_notifications.check_at is 'wxnotify''s: where waiting_for is check, when its check is asked next.';
comment on column pending_notifications.checked_at is 'wxnotify''s: when its check last said that it is still true; good for some seconds.';

-- How many times were skipped of late is asked each quarter of a minute.
create index skipped on reminder_fires (fire_at) where state = 'skipped';

-- What is to be asked, and what may be sent now because it was.
create index check_due on pending_notifications (appid, check_at) where waiting_for = 'check';
create index checked on pending_notifications (appid, checked_at) where checked_at is not null;

create table notification_quiet_hours (
    appid       text not null,
    template_id text not null default '',
    begins      time not null,
    ends        time not null,
    time_zone   text not null default 'Asia/Shanghai',
    set_by      text not null,
    set_at      timestamptz not null default clock_timestamp(),
    primary key (appid, template_id),
    constraint ends_differ check (begins <> ends)
);
comment on table notification_quiet_hours is 'When nothing goes out by wxnotify''s own doing: reminders, retries, redrives, the end of a pause. See set_quiet_hours().';
comment on column notification_quiet_hours.appid is 'The mini-program.';
comment on column notification_quiet_hours.template_id is 'The template that has hours of its own; empty: all others.';
comment on column notification_quiet_hours.begins is 'Wall time, inclusive.';
comment on column notification_quiet_hours.ends is 'Wall time, exclusive; before begins: on the next day.';
comment on column notification_quiet_hours.time_zone is 'IANA name of the zone of both, for rows that no reminder made; a reminder''s count in its own zone.';
comment on column notification_quiet_hours.set_by is 'Who set them.';
comment on column notification_quiet_hours.set_at is 'When.';

create table reminder_checks (
    name          text primary key,
    function_name text not null,
    on_error      text not null default 'hold',
    added_by      text not null,
    added_at      timestamptz not null default clock_timestamp(),
    asked         bigint not null default 0,
    errors        bigint not null default 0,
    asked_at      timestamptz,
    failing_since timestamptz,
    problem       text,
    constraint name_is_a_word check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    constraint on_error_is_known check (on_error in ('hold', 'drop'))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table reminder_checks is 'Functions of the business that say whether a reminder is still true. See add_check().';
comment on column reminder_checks.name is 'What reminder_schedules.still_true calls it.';
comment on column reminder_checks.function_name is 'The function, (text[]) → text[]: given business_refs it returns those that still hold.';
comment on column reminder_checks.on_error is 'What becomes of rows when it fails: hold (they wait, it is asked again) or drop (they are cancelled).';
comment on column reminder_checks.added_by is 'Who added it.';
comment on column reminder_checks.added_at is 'When.';
comment on column reminder_checks.asked is 'How often it was asked.';
comment on column reminder_checks.errors is 'How often that failed.';
comment on column reminder_checks.asked_at is 'When it was asked last.';
comment on column reminder_checks.failing_since is 'Since when it fails; null: its last answer was one.';
comment on column reminder_checks.problem is 'How it failed last, without what it said: that may be about a person.';

alter table reminder_schedules
    add column quiet text not null default 'hold',
    add column still_true text,
    add column approved_version integer,
    add constraint quiet_is_known check (quiet in ('hold', 'drop', 'ignore'));
comment on column reminder_schedules.quiet is 'In quiet hours of its mini-program or template: hold (until they end), drop or ignore. Urgent ones (lane 0) are never held.';
comment on column reminder_schedules.still_true is 'Name of a check of reminder_checks that is asked by business_ref before each send; null: the template''s, or none.';
comment on column reminder_schedules.approved_version is 'wxnotify''s: the version that an operator approved. See approve_schedule().';

alter table wechat_templates add column still_true text;
comment on column wechat_templates.still_true is 'Name of a check of reminder_checks for reminders of this template that name none; null: none. See set_template_still_true().';

alter table wechat_apps add column approve_above integer constraint approve_above_is_not_negative check (approve_above >= 0);
comment on column wechat_apps.approve_above is 'A reminder to more users than this waits for an operator''s approval; null: none does. See set_app_approval().';
