-- Reminders as rows. A business writes reminder_schedules and reminder_audience; only workers write the clock, the fires and the calendars, so
-- that an editor and a maker never meet on a row. A row that a fire made carries its schedule, and the version of it.

alter table pending_notifications
    add column schedule_id bigint,
    add column local_at timestamp,
    add column fold smallint,
    add column schedule_version integer,
    drop constraint waiting_for_is_known,
    add constraint waiting_for_is_known check (
        waiting_for in ('retry', 'user', 'pair', 'template', 'app', 'doubt', 'duplicate', 'refused', 'login', 'obstacle', 'reminder')) not valid;
comment on column pending_notifications.waiting_for is 'wxnotify''s: why it is not sent now: retry, user (another message to the user), pair (a doubt of the same user and template), template, app, doubt, duplicate, refused (the user''s next accept), login (its login_code is not exchanged), obstacle (the database refuses to move it to the history: a foreign key, trigger or rule that is not wxnotify''s) or reminder (its schedule is paused or being changed, or its credit is in use).';
comment on column pending_notifications.schedule_id is 'wxnotify''s: the reminder schedule that made it; null: a producer inserted it.';
comment on column pending_notifications.local_at is 'wxnotify''s: the wall time, in the schedule''s zone, that it was made for.';
comment on column pending_notifications.fold is 'wxnotify''s: 1 for the second of two equal wall times at the end of summer time.';
comment on column pending_notifications.schedule_version is 'wxnotify''s: the version of the schedule that its content is of.';

-- What a fire made, found by its schedule; a producer's row is not in it.
create index reminder on pending_notifications (schedule_id, local_at) where schedule_id is not null;

-- A fire goes through the holders of a template in the order of their openids.
drop index held;
create index held on pending_notifications (appid, template_id, openid, id) where held;

alter table notification_history
    add column schedule_id bigint,
    add column local_at timestamp,
    add column fold smallint;
comment on column notification_history.schedule_id is 'The reminder schedule that made it; null: a producer inserted it.';
comment on column notification_history.local_at is 'The wall time, in the schedule''s zone, that it was made for.';
comment on column notification_history.fold is '1 for the second of two equal wall times at the end of summer time.';

alter table notification_leases add column reminder_ids bigint[];
comment on column notification_leases.reminder_ids is 'Those of ids that reminders made: their schedules are looked at before the start. Null: none, and the lease may be started at once.';

create table reminder_schedules (
    id                bigint generated always as identity primary key,
    appid             text not null,
    name              text not null,
    cron              text,
    every             interval,
    time_zone         text not null default 'Asia/Shanghai',
    only_on           text,
    calendar          text not null default 'CN',
    starts_at         timestamp,
    ends_at           timestamp,
    fires_max         integer,
    audience          text not null default 'one',
    openid            text,
    credit            text not null,
    kind              text not null default 'one_time',
    template_id       text not null,
    page              text,
    data              jsonb not null default '{}',
    miniprogram_state text not null default 'formal',
    lang              text not null default 'zh_CN',
    lane              smallint not null,
    dedup_key         text,
    business_ref      text,
    on_doubt          text not null default 'retry',
    valid_for         interval not null default '1 hour',
    spread            interval not null default '0',
    missed            text not null default 'latest',
    catch_up          interval not null default '1 hour',
    catch_up_max      smallint not null default 24,
    -- wxnotify's own from here on
    spec              text not null,
    version           integer not null default 1,
    recast_version    integer not null default 1,
    retimed_version   integer not null default 1,
    paused_at         timestamptz,
    pause_note        text,
    last_paused_at    timestamptz,
    last_resumed_at   timestamptz,
    producer          name not null default session_user,
    created_at        timestamptz not null default clock_timestamp(),
    unique (producer, appid, name),
    constraint cron_or_every check (num_nonnulls(cron, every) = 1),
    constraint audience_is_known check (audience in ('one', 'list', 'holders')),
    constraint one_has_its_openid check ((audience = 'one') = (openid is not null)),
    constraint credit_is_known check (credit in ('held', 'none')),
    constraint missed_is_known check (missed in ('skip', 'latest', 'all')),
    constraint only_on_is_known check (only_on in ('workday', 'holiday')),
    constraint lane_is_0_to_2 check (lane between 0 and 2)
);
alter table reminder_schedules enable row level security;
comment on table reminder_schedules is 'Reminders: who is told what, and when, again and again. Producers INSERT, UPDATE and DELETE their own.';
comment on column reminder_schedules.id is 'Kept for life: rows of notifications name it.';
comment on column reminder_schedules.appid is 'The mini-program that sends; null means the default one.';
comment on column reminder_schedules.name is 'Its name, 1 to 100 characters, unique for a producer and mini-program: upsert by (producer, appid, name).';
comment on column reminder_schedules.cron is 'When: five fields (minute hour day month weekday), or six with seconds first where the audience is one; at most 100 characters.';
comment on column reminder_schedules.every is 'Or how often, counted from starts_at: 3 days, 2 weeks.';
comment on column reminder_schedules.time_zone is 'IANA name of the zone that its times are in, such as Asia/Shanghai.';
comment on column reminder_schedules.only_on is 'workday or holiday: only on such days of reminder_days; null: on any day.';
comment on column reminder_schedules.calendar is 'Which calendar of reminder_days only_on is about.';
comment on column reminder_schedules.starts_at is 'Not before this wall time; for every, the time it counts from.';
comment on column reminder_schedules.ends_at is 'Not at this wall time or after it.';
comment on column reminder_schedules.fires_max is 'Ends after so many fires were made; null: never.';
comment on column reminder_schedules.audience is 'one (its openid), list (its rows of reminder_audience) or holders (every user with an unspent held credit of the template).';
comment on column reminder_schedules.openid is 'The receiver, where the audience is one.';
comment on column reminder_schedules.credit is 'held: each message spends a held credit of the user, and without one is not sent; none: nothing is looked for. Null means held for one_time, none for other kinds.';
comment on column reminder_schedules.kind is 'one_time or long_term.';
comment on column reminder_schedules.template_id is 'WeChat''s private template id.';
comment on column reminder_schedules.page is 'Page of the mini-program that the card opens, without a leading slash.';
comment on column reminder_schedules.data is 'The fields, as in pending_notifications. {{fire:YYYY年MM月DD日 HH24:MI}} stands for the fire''s local time, {{name}} for a text of the audience''s row.';
comment on column reminder_schedules.miniprogram_state is 'The build that opens on a tap: developer, trial or formal.';
comment on column reminder_schedules.lang is 'Language of the card: zh_CN, en_US, zh_HK or zh_TW.';
comment on column reminder_schedules.lane is '0 urgent, 1 normal, 2 bulk; null means 1 for one, 2 for list and holders.';
comment on column reminder_schedules.dedup_key is 'As in pending_notifications; may hold {{fire:…}} and {{name}}.';
comment on column reminder_schedules.business_ref is 'As in pending_notifications; a ref of the audience''s row goes before it.';
comment on column reminder_schedules.on_doubt is 'When a reply was lost: retry or hold.';
comment on column reminder_schedules.valid_for is 'How long after its own due time a message may still be sent.';
comment on column reminder_schedules.spread is 'The messages of a fire are spread over this long; the same user has the same place in it each time.';
comment on column reminder_schedules.missed is 'Of times that passed during an outage or a pause: skip, latest (the last one is made up for) or all (the last catch_up_max within catch_up).';
comment on column reminder_schedules.catch_up is 'How far back missed = all goes.';
comment on column reminder_schedules.catch_up_max is 'How many fires missed = all makes up for, at most.';
comment on column reminder_schedules.spec is 'wxnotify''s: names its row of reminder_calendars.';
comment on column reminder_schedules.version is 'wxnotify''s: grows with each edit.';
comment on column reminder_schedules.recast_version is 'wxnotify''s: the last version that changed who is told, by which template, or when: rows of older ones are cancelled.';
comment on column reminder_schedules.retimed_version is 'wxnotify''s: the last version that changed the times.';
comment on column reminder_schedules.paused_at is 'wxnotify''s: paused since; null: not paused. See pause_schedule() and resume_schedule().';
comment on column reminder_schedules.pause_note is 'wxnotify''s: why it is paused.';
comment on column reminder_schedules.last_paused_at is 'wxnotify''s: beginning of the last pause that ended.';
comment on column reminder_schedules.last_resumed_at is 'wxnotify''s: its end.';
comment on column reminder_schedules.producer is 'The database user that inserted it; its rows are that user''s, too.';
comment on column reminder_schedules.created_at is 'When it was inserted.';

create index on reminder_schedules (spec);

create table reminder_audience (
    schedule_id bigint not null,
    openid      text not null,
    data        jsonb not null default '{}',
    ref         text,
    primary key (schedule_id, openid),
    constraint openid_has_1_to_128_characters check (length(openid) between 1 and 128),
    constraint data_is_a_small_object check (jsonb_typeof(data) = 'object' and pg_column_size(data) <= 4096),
    constraint ref_has_1_to_200_characters check (length(ref) between 1 and 200)
);
alter table reminder_audience enable row level security;
comment on table reminder_audience is 'Who is told by a schedule whose audience is list.';
comment on column reminder_audience.schedule_id is 'The schedule.';
comment on column reminder_audience.openid is 'The user.';
comment on column reminder_audience.data is 'Texts for {{name}} in the schedule''s data, page and dedup_key.';
comment on column reminder_audience.ref is 'business_ref of this user''s messages; null: the schedule''s.';

create table reminder_days (
    calendar   text not null,
    day        date not null,
    is_workday boolean not null,
    primary key (calendar, day)
);
comment on table reminder_days is 'Which days are workdays, filled by the business: holidays move the weekends of a Chinese year. A day that is not listed goes by its weekday: Monday to Friday are workdays.';
comment on column reminder_days.calendar is 'Whose days: CN, or a name of the business.';
comment on column reminder_days.day is 'The day.';
comment on column reminder_days.is_workday is 'True: a workday; false: a holiday.';

create table reminder_calendars (
    spec          text primary key,
    cron          text,
    every         interval,
    anchor        timestamp,
    time_zone     text not null,
    wanted_from   timestamptz,
    covers_from   timestamptz,
    covers_until  timestamptz,
    local_ats     timestamp[] not null default '{}',
    folds         smallint[] not null default '{}',
    fire_ats      timestamptz[] not null default '{}',
    problem       text,
    computed_at   timestamptz,
    refresh_at    timestamptz not null default clock_timestamp(),
    constraint arrays_have_one_length check (cardinality(local_ats) = cardinality(fire_ats) and cardinality(folds) = cardinality(fire_ats))
);
comment on table reminder_calendars is 'The next times of each distinct cron text, or span and anchor, in its zone; workers fill it. wxnotify''s own.';
comment on column reminder_calendars.spec is 'Text and zone in one.';
comment on column reminder_calendars.cron is 'The cron text.';
comment on column reminder_calendars.every is 'Or the span.';
comment on column reminder_calendars.anchor is 'What the span counts from.';
comment on column reminder_calendars.time_zone is 'The zone.';
comment on column reminder_calendars.wanted_from is 'The earliest time that some schedule asks about; null: none before now.';
comment on column reminder_calendars.covers_from is 'All times after this one, up to covers_until, are listed.';
comment on column reminder_calendars.covers_until is 'All times up to this one are listed.';
comment on column reminder_calendars.local_ats is 'The wall times, in order of fire_ats.';
comment on column reminder_calendars.folds is '1 for the second of two equal wall times.';
comment on column reminder_calendars.fire_ats is 'The instants, ascending.';
comment on column reminder_calendars.problem is 'Why there are none: the text cannot be read, or never comes.';
comment on column reminder_calendars.computed_at is 'When it was computed last; null: not yet.';
comment on column reminder_calendars.refresh_at is 'When it is computed next; infinity: never, since it has a problem.';
create index on reminder_calendars (refresh_at);

-- Narrow, rewritten at each fire. Without a foreign key: a DELETE of the schedule neither waits for a maker nor fails under REPEATABLE READ.
create table reminder_clock (
    schedule_id  bigint primary key,
    next_fire_at timestamptz not null,
    place        timestamptz not null,
    version      integer not null,
    fires_made   integer not null default 0,
    is_over      boolean not null default false,
    problem      text
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
create index on reminder_clock (next_fire_at);
comment on table reminder_clock is 'When each schedule is looked at next. wxnotify''s own.';
comment on column reminder_clock.schedule_id is 'The schedule.';
comment on column reminder_clock.next_fire_at is 'Its next fire, or when its calendar is looked at again; infinity: paused, or never.';
comment on column reminder_clock.place is 'All its times up to this one have been seen to.';
comment on column reminder_clock.version is 'The version of the schedule it was set for.';
comment on column reminder_clock.fires_made is 'Fires made, for fires_max.';
comment on column reminder_clock.is_over is 'It will not fire again: fires_max or ends_at is reached.';
comment on column reminder_clock.problem is 'Why its last fire could not be made; it is tried again.';

create table reminder_changes (
    n           bigint generated always as identity primary key,
    schedule_id bigint not null,
    at          timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, vacuum_truncate = off);
comment on table reminder_changes is 'Schedules that were inserted, edited, paused, resumed or deleted, for workers to see to. Only inserted into, so that it conflicts with nobody. wxnotify''s own.';
comment on column reminder_changes.n is 'Order.';
comment on column reminder_changes.schedule_id is 'The schedule.';
comment on column reminder_changes.at is 'When.';

create table reminder_fires (
    schedule_id bigint not null,
    local_at    timestamp not null,
    fold        smallint not null default 0,
    fire_at     timestamptz not null,
    version     integer not null,
    state       text not null,
    reason      text,
    cursor      text not null default '',
    audience    integer not null default 0,
    made        integer not null default 0,
    refused     integer not null default 0,
    until       timestamp,
    count       integer not null default 1,
    chunk_at    timestamptz not null default clock_timestamp(),
    failures    smallint not null default 0,
    made_at     timestamptz not null default clock_timestamp(),
    primary key (schedule_id, local_at, fold),
    constraint state_is_known check (state in ('open', 'done', 'skipped', 'cancelled'))
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
create index on reminder_fires (chunk_at) where state = 'open';
create index on reminder_fires (fire_at);
comment on table reminder_fires is 'One row for each time of a schedule: a time that has a row is never fired again. wxnotify''s own, read reminder_outcomes instead.';
comment on column reminder_fires.schedule_id is 'The schedule.';
comment on column reminder_fires.local_at is 'The wall time in the schedule''s zone.';
comment on column reminder_fires.fold is '1 for the second of two equal wall times at the end of summer time.';
comment on column reminder_fires.fire_at is 'The instant.';
comment on column reminder_fires.version is 'The version of the schedule that it was made of last.';
comment on column reminder_fires.state is 'open (its rows are being made), done, skipped or cancelled.';
comment on column reminder_fires.reason is 'Why it was skipped or cancelled; of a done one, the rule that some of its texts broke.';
comment on column reminder_fires.cursor is 'The last openid that was seen to.';
comment on column reminder_fires.audience is 'Users seen to.';
comment on column reminder_fires.made is 'Rows made.';
comment on column reminder_fires.refused is 'Users left out: they refuse the template, or their text breaks a rule.';
comment on column reminder_fires.until is 'For many skipped times in one row, the last of them.';
comment on column reminder_fires.count is 'How many times the row stands for.';
comment on column reminder_fires.chunk_at is 'Open: when it is worked on next.';
comment on column reminder_fires.failures is 'Open: how often that failed in a row.';
comment on column reminder_fires.made_at is 'When it was recorded.';

-- Only inserted into: two workers that settle rows of one fire must not wait for each other.
create table reminder_results (
    n           bigint generated always as identity primary key,
    schedule_id bigint not null,
    local_at    timestamp not null,
    fold        smallint not null,
    result      text not null,
    count       integer not null,
    late        integer not null,
    at          timestamptz not null default clock_timestamp()
);
create index on reminder_results (schedule_id, local_at);
create index on reminder_results using brin (at) with (autosummarize = on);
comment on table reminder_results is 'How rows of fires ended, counted at each settle; reminder_outcomes adds them up. wxnotify''s own.';
comment on column reminder_results.n is 'Order.';
comment on column reminder_results.schedule_id is 'The schedule.';
comment on column reminder_results.local_at is 'The wall time of the fire.';
comment on column reminder_results.fold is 'Its fold.';
comment on column reminder_results.result is 'sent, in_doubt, no_credit, refused (a text that broke a rule after an edit), not_true, expired, dead, cancelled or withdrawn (cancelled by an edit before anything was tried).';
comment on column reminder_results.count is 'How many.';
comment on column reminder_results.late is 'How many of them were sent a minute or more after they were due.';
comment on column reminder_results.at is 'When.';

create table reminder_schedules_deleted (
    schedule_id bigint primary key,
    appid       text not null,
    name        text not null,
    producer    name not null,
    deleted_at  timestamptz not null default clock_timestamp()
);
comment on table reminder_schedules_deleted is 'Names of deleted schedules, for what their rows say. wxnotify''s own.';
comment on column reminder_schedules_deleted.schedule_id is 'The schedule.';
comment on column reminder_schedules_deleted.appid is 'Its mini-program.';
comment on column reminder_schedules_deleted.name is 'Its name.';
comment on column reminder_schedules_deleted.producer is 'Whose it was.';
comment on column reminder_schedules_deleted.deleted_at is 'When it was deleted.';
