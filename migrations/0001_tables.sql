-- The tables: rows not yet final, the history of final ones, leases, keys, workers and mini-programs.
-- A row of pending_notifications is one credit and the message that spends it. Leasing does not rewrite it:
-- a lease is one row per batch in notification_leases, so the hot table stays small and its index clean.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table pending_notifications (
    id                bigint generated always as identity primary key,
    appid             text not null,
    kind              text not null default 'one_time',
    openid            text,
    login_code        text,
    template_id       text not null,
    page              text,
    data              jsonb not null default '{}',
    extra             jsonb,
    miniprogram_state text not null default 'formal',
    lang              text not null default 'zh_CN',
    send_at           timestamptz default now(),
    held              boolean not null default false,
    expire_at         timestamptz,
    lane              smallint not null default 1,
    dedup_key         text,
    business_ref      text,
    on_doubt          text not null default 'retry',
    attempts_max      smallint not null default 8,
    created_at        timestamptz not null default now(),
    -- wxnotify's own from here on; what a producer writes into them is overwritten
    due               timestamptz not null default now(),
    waiting_for       text,
    attempts          smallint not null default 0,
    rescues           smallint not null default 0,
    in_doubt_since    timestamptz,
    last_lease        bigint,
    last_errcode      bigint,
    last_errmsg       text,
    last_attempt_at   timestamptz,
    producer          name not null default session_user,
    login_at          timestamptz,
    login_until       timestamptz,
    login_claims      smallint not null default 0,
    login_unclear     smallint not null default 0,
    constraint kind_is_known check (kind in ('one_time', 'long_term', 'device', 'service_card')),
    constraint receiver_or_login_code check (num_nonnulls(openid, login_code) = 1),
    constraint login_code_has_its_times check (num_nonnulls(login_code, login_at, login_until) in (0, 3)),
    constraint miniprogram_state_is_known check (miniprogram_state in ('developer', 'trial', 'formal')),
    constraint lang_is_known check (lang in ('zh_CN', 'en_US', 'zh_HK', 'zh_TW')),
    constraint lane_is_0_to_2 check (lane between 0 and 2),
    constraint on_doubt_is_known check (on_doubt in ('retry', 'hold')),
    constraint attempts_max_is_1_to_100 check (attempts_max between 1 and 100),
    constraint attempts_are_counted check (attempts >= 0 and rescues >= 0),
    constraint waiting_for_is_known check (waiting_for in ('retry', 'user', 'pair', 'template', 'app', 'doubt', 'duplicate', 'refused', 'login')),
    constraint only_held_and_receiverless_rows_wait_forever check (held or openid is null or due < 'infinity'),
    constraint due_is_not_past_expire_at check (due <= expire_at),
    constraint held_rows_are_not_in_doubt check (not held or in_doubt_since is null),
    constraint doubt_has_a_beginning check (waiting_for is distinct from 'doubt' or in_doubt_since is not null),
    constraint doubt_follows_an_attempt check (in_doubt_since is null or attempts > 0)
) with (
    -- Rows are deleted as fast as they are inserted: vacuum early, and never take the lock that truncation needs.
    fillfactor = 95, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000, vacuum_truncate = off
);

-- The one index in pick order; lanes and apps are separate picks. It ends with id + 0, not id: "id = …" would fit both it and the
-- primary key, which cost the same to the planner when autovacuum finds the queue empty, and a plan kept from then would read
-- all of it for each row once the queue is full. So every statement that wants this order says id + 0.
create index pick on pending_notifications (appid, lane, due, (id + 0));
create index pair on pending_notifications (appid, openid, template_id);
create index doubt on pending_notifications (appid, openid, template_id) where in_doubt_since is not null;
create index duplicate on pending_notifications (appid, dedup_key) where waiting_for = 'duplicate';
create index parked on pending_notifications (appid, template_id) where waiting_for in ('template', 'app');
create index business_ref on pending_notifications (business_ref) where business_ref is not null;

create table notification_history (
    id                bigint not null,
    appid             text not null,
    status            text not null,
    kind              text not null,
    openid            text,
    template_id       text not null,
    page              text,
    data              jsonb not null,
    extra             jsonb,
    miniprogram_state text not null,
    lang              text not null,
    send_at           timestamptz,
    held              boolean not null,
    expire_at         timestamptz,
    lane              smallint not null,
    dedup_key         text,
    business_ref      text,
    on_doubt          text not null,
    attempts_max      smallint not null,
    created_at        timestamptz not null,
    producer          name not null,
    attempts          smallint not null,
    in_doubt_since    timestamptz,
    errcode           bigint,
    errmsg            text,
    msgid             bigint,
    credit            text,
    duplicate_of      bigint,
    worker            text,
    settled_by        text not null,
    last_attempt_at   timestamptz,
    finished_at       timestamptz not null,
    constraint status_is_final check (status in ('sent', 'presumed_sent', 'dead', 'expired', 'cancelled', 'duplicate', 'unresolved')),
    constraint credit_is_known check (credit in ('kept', 'gone', 'unknown')),
    constraint settled_by_is_known check (settled_by in ('reply', 'late_reply', 'event', 'policy', 'operator', 'producer', 'worker', 'read_back')),
    constraint doubtful_ends_are_said check (in_doubt_since is null or status not in ('expired', 'cancelled', 'duplicate')),
    constraint duplicates_name_their_winner check ((status = 'duplicate') = (duplicate_of is not null))
) partition by range (finished_at);
create index on notification_history (id);
create index on notification_history (appid, openid, template_id);
create index on notification_history (status, finished_at) where status <> 'sent';
create index on notification_history (business_ref) where business_ref is not null;

create table notification_attempts (
    notification_id bigint not null,
    appid           text not null,
    attempt         smallint not null,
    result          text not null,
    errcode         bigint,
    errmsg          text,
    rid             text,
    http_status     smallint,
    reason          text,
    started_at      timestamptz,
    response_ms     integer,
    worker          text,
    lease_id        bigint,
    finished_at     timestamptz not null,
    constraint result_is_known check (result in ('sent', 'presumed_sent', 'dead', 'retry', 'park', 'doubt', 'late_reply', 'read_back'))
) partition by range (finished_at);
create index on notification_attempts (notification_id);

create table notification_leases (
    appid      text not null,
    lease_id   bigint generated always as identity,
    worker     text not null,
    ids        bigint[] not null,
    user_keys  integer[] not null,
    leased_at  timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    expires_at timestamptz not null,
    primary key (appid, lease_id),
    constraint lease_holds_1_to_512_rows check (
        cardinality(ids) between 1 and 512 and cardinality(ids) = cardinality(user_keys)
        and array_position(ids, null) is null and array_position(user_keys, null) is null)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, vacuum_truncate = off);
alter table notification_leases alter ids set storage plain, alter user_keys set storage plain;

-- A key row exists while its id is pending and was leased once, or when it was sent. It is inserted only under the
-- app lock and deleted only by who holds the winner's row lock.
create table notification_keys (
    appid      text not null,
    dedup_key  text not null,
    id         bigint not null,
    claimed_at timestamptz not null default now(),
    primary key (appid, dedup_key)
);
create index on notification_keys (claimed_at);

create table notification_workers (
    name         text not null,
    epoch        bigint generated always as identity,
    version      text not null,
    appids       text[] not null default '{}',
    started_at   timestamptz not null default clock_timestamp(),
    heartbeat_at timestamptz not null default clock_timestamp(),
    in_flight    integer not null default 0,
    stopped_at   timestamptz,
    primary key (name, epoch)
);

create table wechat_apps (
    appid           text primary key,
    name            text,
    rate_per_second real,
    paused_until    timestamptz,
    pause_reason    text,
    pause_errcode   bigint,
    probing         boolean not null default false,
    created_at      timestamptz not null default now(),
    constraint appid_is_plain check (appid ~ '^[A-Za-z0-9_-]{1,64}$'),
    constraint rate_is_positive check (rate_per_second > 0 and rate_per_second <= 1000000)
);

create table wechat_rates (
    appid     text primary key references wechat_apps on delete cascade,
    tokens    real not null default 0,
    filled_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

create table wechat_templates (
    appid         text not null,
    template_id   text not null,
    paused_until  timestamptz,
    pause_reason  text,
    pause_errcode bigint,
    primary key (appid, template_id)
);

-- One row for each user and template whose last word is a refusal: the first accept after it removes the row.
create table wechat_refusals (
    appid       text not null,
    openid      text not null,
    template_id text not null,
    refused_at  timestamptz not null,
    said_by     text not null,
    noted_at    timestamptz not null default clock_timestamp(),
    primary key (appid, openid, template_id),
    constraint said_by_is_known check (said_by in ('popup', 'change', '43101'))
);

create table wechat_events (
    id          bigint generated always as identity primary key,
    appid       text not null,
    event       text not null,
    openid      text not null,
    template_id text not null,
    msgid       bigint,
    occurred_at timestamptz not null,
    received_at timestamptz not null default clock_timestamp(),
    unique (appid, event, msgid)
);
create index on wechat_events (appid, openid, template_id) where msgid is not null;

create table operator_actions (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default clock_timestamp(),
    actor        text not null default session_user,
    action       text not null,
    filter       jsonb not null default '{}',
    rows_changed bigint not null default 0,
    note         text
);

-- Greater than zero while a worker sleeps. A sequence, since a table row updated at every arming would bloat under a
-- long transaction, and because a sequence is read without a snapshot.
create sequence notification_bell minvalue 0 start 0;
select setval('notification_bell', 0);

comment on table pending_notifications is 'Notifications that are not final: held, scheduled, due, being sent, waiting to retry, in doubt. Producers INSERT; one row is one credit and the message that spends it.';
comment on column pending_notifications.id is 'Kept for life, also in notification_history.';
comment on column pending_notifications.appid is 'The mini-program that sends. One that is not registered yet is accepted and waits (status paused).';
comment on column pending_notifications.kind is 'one_time spends a credit; long_term, device (a device''s message) and service_card (an update of a service card) do not.';
comment on column pending_notifications.openid is 'The receiver: the openid of the user in this mini-program. Null while its login_code is not exchanged.';
comment on column pending_notifications.login_code is 'Instead of the openid: a code of wx.login, which lives for 5 minutes. It is exchanged as soon as it is seen and erased then.';
comment on column pending_notifications.template_id is 'WeChat''s private template id; for a service card its notify_type.';
comment on column pending_notifications.page is 'Page of the mini-program that the card opens, without a leading slash; null: the card does not jump.';
comment on column pending_notifications.data is 'The fields: {"thing2": {"value": "…"}} or short {"thing2": "…"}; at most 4 KB; checked by WeChat''s type rules at INSERT. For a service card its content_json.';
comment on column pending_notifications.extra is 'What only one kind of message needs: device {"sn", "modelId"}; service_card {"notify_code", "check_json"} or, for its ext fields, {"notify_code", "ext_json"}.';
comment on column pending_notifications.miniprogram_state is 'The build that opens on a tap: developer, trial or formal.';
comment on column pending_notifications.lang is 'Language of the card: zh_CN, en_US, zh_HK or zh_TW.';
comment on column pending_notifications.send_at is 'Not before; null means now. Finite and before 2200.';
comment on column pending_notifications.held is 'A held credit: recorded now, sent only when armed with arm(…) or held = false.';
comment on column pending_notifications.expire_at is 'Not after: past it the row ends expired, never sent late. Null: never. Before 2200.';
comment on column pending_notifications.lane is '0 urgent, 1 normal, 2 bulk.';
comment on column pending_notifications.dedup_key is 'Of rows with one key (per appid) one is sent; the others end duplicate.';
comment on column pending_notifications.business_ref is 'The business object (order, class, …): find, cancel and reschedule by it.';
comment on column pending_notifications.on_doubt is 'When a reply was lost: retry (send again after the evidence window) or hold (never without evidence or an operator).';
comment on column pending_notifications.attempts_max is 'Attempts before the row is dead-lettered, 1 to 100.';
comment on column pending_notifications.created_at is 'When the producer inserted it.';
comment on column pending_notifications.due is 'wxnotify''s: the next moment something must happen, at most expire_at; infinity for a held row without expire_at.';
comment on column pending_notifications.waiting_for is 'wxnotify''s: why it is not sent now: retry, user (another message to the user), pair (a doubt of the same user and template), template, app, doubt, duplicate, refused (the user''s next accept) or login (its login_code is not exchanged).';
comment on column pending_notifications.attempts is 'wxnotify''s: sends counted so far.';
comment on column pending_notifications.rescues is 'wxnotify''s: how often a worker vanished with this row in flight; after one such end it shares no lease with another of its kind, after two it is leased alone.';
comment on column pending_notifications.in_doubt_since is 'wxnotify''s: beginning of the first send whose result is unknown; stays until evidence or policy ends the doubt.';
comment on column pending_notifications.last_lease is 'wxnotify''s: the lease that settled it last without ending it.';
comment on column pending_notifications.last_errcode is 'wxnotify''s: WeChat''s errcode at the last attempt.';
comment on column pending_notifications.last_errmsg is 'wxnotify''s: WeChat''s errmsg or the transport failure of the last attempt.';
comment on column pending_notifications.last_attempt_at is 'wxnotify''s: when the last attempt was settled.';
comment on column pending_notifications.producer is 'The database user that inserted or armed it.';
comment on column pending_notifications.login_at is 'wxnotify''s: when its login_code is exchanged; while a worker exchanges it, when another one may.';
comment on column pending_notifications.login_until is 'wxnotify''s: when its login_code has expired.';
comment on column pending_notifications.login_claims is 'wxnotify''s: exchanges begun.';
comment on column pending_notifications.login_unclear is 'wxnotify''s: those of them whose answer is not known: they may have used the code.';

comment on table notification_history is 'Final rows, partitioned by month of finished_at (UTC) and dropped by retention.';
comment on column notification_history.id is 'The id it had in pending_notifications.';
comment on column notification_history.appid is 'The mini-program.';
comment on column notification_history.status is 'sent, presumed_sent, dead, expired, cancelled, duplicate or unresolved.';
comment on column notification_history.kind is 'As inserted.';
comment on column notification_history.openid is 'As inserted, or what its login code was exchanged for; null: the exchange never succeeded.';
comment on column notification_history.template_id is 'As inserted.';
comment on column notification_history.page is 'As inserted.';
comment on column notification_history.data is 'As inserted or armed.';
comment on column notification_history.extra is 'As inserted.';
comment on column notification_history.miniprogram_state is 'As inserted.';
comment on column notification_history.lang is 'As inserted.';
comment on column notification_history.send_at is 'As inserted or rescheduled.';
comment on column notification_history.held is 'True when it ended as a held credit, never armed.';
comment on column notification_history.expire_at is 'As inserted.';
comment on column notification_history.lane is 'As inserted.';
comment on column notification_history.dedup_key is 'As inserted.';
comment on column notification_history.business_ref is 'As inserted.';
comment on column notification_history.on_doubt is 'As inserted.';
comment on column notification_history.attempts_max is 'As inserted.';
comment on column notification_history.created_at is 'When the producer inserted it.';
comment on column notification_history.producer is 'The database user that inserted it.';
comment on column notification_history.attempts is 'Sends counted.';
comment on column notification_history.in_doubt_since is 'Set when a send of it was ever in doubt: with status sent and settled_by reply it may have been delivered twice.';
comment on column notification_history.errcode is 'WeChat''s last errcode; 0 for sent by a reply, null when an event, an operator or the state read back ended it.';
comment on column notification_history.errmsg is 'WeChat''s last errmsg or the transport failure.';
comment on column notification_history.msgid is 'WeChat''s msgid: an integer above 2^53.';
comment on column notification_history.credit is 'What became of the user''s credit, for dead rows: kept, gone or unknown.';
comment on column notification_history.duplicate_of is 'For duplicate: the id that was sent instead.';
comment on column notification_history.worker is 'Worker name and epoch that ended it.';
comment on column notification_history.settled_by is 'What ended it: reply, late_reply, event, policy, operator, producer, worker or read_back (WeChat shows the state of the service card).';
comment on column notification_history.last_attempt_at is 'When the attempt before the final one was settled.';
comment on column notification_history.finished_at is 'When it became final.';

comment on table notification_attempts is 'One row per attempt that did not end in a plain success, partitioned by month.';
comment on column notification_attempts.notification_id is 'The notification.';
comment on column notification_attempts.appid is 'The mini-program.';
comment on column notification_attempts.attempt is 'Counted from 1; a park counts none and repeats the number before it.';
comment on column notification_attempts.result is 'What the attempt led to: sent, presumed_sent, dead, retry, park, doubt, late_reply, or read_back (the state of a service card was asked for).';
comment on column notification_attempts.errcode is 'WeChat''s errcode, null when no readable reply came.';
comment on column notification_attempts.errmsg is 'WeChat''s errmsg.';
comment on column notification_attempts.rid is 'WeChat''s request id, for its rid/get API (kept there 7 days).';
comment on column notification_attempts.http_status is 'HTTP status, null when none came.';
comment on column notification_attempts.reason is 'Transport failure, pause or park in words.';
comment on column notification_attempts.started_at is 'When its lease was started.';
comment on column notification_attempts.response_ms is 'Milliseconds from request to reply or failure.';
comment on column notification_attempts.worker is 'Worker name and epoch.';
comment on column notification_attempts.lease_id is 'The lease it belonged to.';
comment on column notification_attempts.finished_at is 'When it was recorded.';

comment on table notification_leases is 'One row per leased batch. Started and expired means its unsettled rows are in doubt.';
comment on column notification_leases.appid is 'The mini-program of all its rows.';
comment on column notification_leases.lease_id is 'Increasing; workers remember the smallest live one.';
comment on column notification_leases.worker is 'Worker name and epoch: the fence.';
comment on column notification_leases.ids is 'The leased notifications.';
comment on column notification_leases.user_keys is 'Hash of each row''s user, so that one user is in one lease at a time.';
comment on column notification_leases.leased_at is 'When it was reserved.';
comment on column notification_leases.started_at is 'The durable record before its first send; null: nothing of it was sent.';
comment on column notification_leases.expires_at is 'After this anyone may rescue it.';

comment on table notification_keys is 'Dedup keys and the notification that holds each.';
comment on column notification_keys.appid is 'The mini-program.';
comment on column notification_keys.dedup_key is 'The producer''s key.';
comment on column notification_keys.id is 'The winner. Pending: it will be sent; gone: it was sent.';
comment on column notification_keys.claimed_at is 'When it was claimed; retention drops keys with the history.';

comment on table notification_workers is 'Workers, one row per start.';
comment on column notification_workers.name is 'WXNOTIFY_WORKER, the host name by default.';
comment on column notification_workers.epoch is 'Issued by the database at each start, so that two workers of one name are told apart.';
comment on column notification_workers.version is 'Version of the program.';
comment on column notification_workers.appids is 'Mini-programs whose secret it has.';
comment on column notification_workers.started_at is 'When it started.';
comment on column notification_workers.heartbeat_at is 'Its last sign of life.';
comment on column notification_workers.in_flight is 'Sends in flight at the last heartbeat.';
comment on column notification_workers.stopped_at is 'When it stopped in order.';

comment on table wechat_apps is 'Mini-programs. No secret is stored here.';
comment on column wechat_apps.appid is 'WeChat''s appid.';
comment on column wechat_apps.name is 'A name for people.';
comment on column wechat_apps.rate_per_second is 'Most sends per second of all workers together; null: no limit.';
comment on column wechat_apps.paused_until is 'Nothing is leased before; infinity: until an operator resumes it.';
comment on column wechat_apps.pause_reason is 'Why it is paused.';
comment on column wechat_apps.pause_errcode is 'The errcode that paused it.';
comment on column wechat_apps.probing is 'After a pause one row at a time is tried until one gets a sound answer.';
comment on column wechat_apps.created_at is 'When it was added.';

comment on table wechat_rates is 'Token bucket of each mini-program with a rate; workers take slices of it.';
comment on column wechat_rates.appid is 'The mini-program.';
comment on column wechat_rates.tokens is 'Sends left at filled_at.';
comment on column wechat_rates.filled_at is 'When tokens was counted.';

comment on table wechat_templates is 'Templates that were paused.';
comment on column wechat_templates.appid is 'The mini-program.';
comment on column wechat_templates.template_id is 'WeChat''s private template id.';
comment on column wechat_templates.paused_until is 'Its rows wait until then; infinity: until an operator resumes it.';
comment on column wechat_templates.pause_reason is 'Why it is paused.';
comment on column wechat_templates.pause_errcode is 'The errcode that paused it.';

comment on table wechat_refusals is 'Users who refuse a template now: their one_time and long_term rows wait until they accept again.';
comment on column wechat_refusals.appid is 'The mini-program.';
comment on column wechat_refusals.openid is 'The user.';
comment on column wechat_refusals.template_id is 'The template.';
comment on column wechat_refusals.refused_at is 'When, by WeChat''s CreateTime; for 43101 the second in which the send began.';
comment on column wechat_refusals.said_by is 'How we know: popup or change (WeChat''s events), or 43101 on a long_term message.';
comment on column wechat_refusals.noted_at is 'When it was noted here.';

comment on table wechat_events is 'What WeChat said about a message outside the settled reply: late replies and callbacks. Evidence that ends doubts.';
comment on column wechat_events.id is 'Order of arrival.';
comment on column wechat_events.appid is 'The mini-program.';
comment on column wechat_events.event is 'late_reply, or the name of WeChat''s event.';
comment on column wechat_events.openid is 'The receiver.';
comment on column wechat_events.template_id is 'The template.';
comment on column wechat_events.msgid is 'WeChat''s msgid of the message it is about.';
comment on column wechat_events.occurred_at is 'When it happened, by WeChat''s word or ours.';
comment on column wechat_events.received_at is 'When it was stored.';

comment on table operator_actions is 'Who did what, with which filter, to how many rows.';
comment on column operator_actions.id is 'Order.';
comment on column operator_actions.at is 'When.';
comment on column operator_actions.actor is 'Who: database user, and the operating system''s user where the command line was used.';
comment on column operator_actions.action is 'The verb.';
comment on column operator_actions.filter is 'Which rows were asked for.';
comment on column operator_actions.rows_changed is 'How many rows it changed.';
comment on column operator_actions.note is 'The operator''s own words.';
comment on sequence notification_bell is 'Above zero while a worker sleeps and wants to be woken by NOTIFY.';
