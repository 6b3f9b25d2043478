-- The tables: rows not yet final, the history of final ones, leases, keys, workers and mini-programs, and what WeChat says of them.
-- A row of pending_notifications is one credit and the message that spends it. Leasing does not rewrite it:
-- a lease is one row per batch in notification_leases, so the hot table stays small and its index clean.
--
-- State is migrated, one way: a file here is never edited once it was released. Code (functions, views, triggers, policies, rights)
-- is not here but in sql/schema, and is replaced.

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
    fillfactor        = 95, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000, vacuum_truncate = off
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

-- For the statuses few rows have. A row that is inserted, sent and gone is in neither.
create index waiting on pending_notifications (waiting_for, due) where waiting_for is not null;

create index held on pending_notifications (appid, openid, template_id, id) where held;

-- Only rows that wait for their exchange are in it: usually it is empty.
create index login on pending_notifications (appid, login_at) where login_code is not null;

-- Whose rows a producer sees: the policies of sql/schema/rights.
alter table pending_notifications enable row level security;

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
    -- what WeChat's sent event said of it, which comes after it is final
    receipt_at        timestamptz,
    receipt_code      bigint,
    receipt_status    text,
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

create index on notification_history using brin (finished_at) with (autosummarize = on);

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
comment on column notification_history.receipt_at is 'When WeChat said what became of the message; null: it did not say (yet).';
comment on column notification_history.receipt_code is 'ErrorCode of WeChat''s sent event: 0 is delivered.';
comment on column notification_history.receipt_status is 'ErrorStatus of WeChat''s sent event: success, or what went wrong.';

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

-- Attempts are asked for by time (the last day's failures); they arrive in that order, so a few pages of BRIN serve.
create index on notification_attempts using brin (finished_at) with (autosummarize = on);

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
        cardinality(ids) >= 1 and cardinality(ids) <= 512 and cardinality(ids) = cardinality(user_keys)
        and array_position(ids, null) is null and array_position(user_keys, null) is null)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, vacuum_truncate = off);

alter table notification_leases alter ids set storage plain, alter user_keys set storage plain;

comment on table notification_leases is 'One row per leased batch. Started and expired means its unsettled rows are in doubt.';
comment on column notification_leases.appid is 'The mini-program of all its rows.';
comment on column notification_leases.lease_id is 'Increasing; workers remember the smallest live one.';
comment on column notification_leases.worker is 'Worker name and epoch: the fence.';
comment on column notification_leases.ids is 'The leased notifications.';
comment on column notification_leases.user_keys is 'Hash of each row''s user, so that one user is in one lease at a time.';
comment on column notification_leases.leased_at is 'When it was reserved.';
comment on column notification_leases.started_at is 'The durable record before its first send; null: nothing of it was sent.';
comment on column notification_leases.expires_at is 'After this anyone may rescue it.';

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

comment on table notification_keys is 'Dedup keys and the notification that holds each.';
comment on column notification_keys.appid is 'The mini-program.';
comment on column notification_keys.dedup_key is 'The producer''s key.';
comment on column notification_keys.id is 'The winner. Pending: it will be sent; gone: it was sent.';
comment on column notification_keys.claimed_at is 'When it was claimed; retention drops keys with the history.';

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

comment on table notification_workers is 'Workers, one row per start.';
comment on column notification_workers.name is 'WXNOTIFY_WORKER, the host name by default.';
comment on column notification_workers.epoch is 'Issued by the database at each start, so that two workers of one name are told apart.';
comment on column notification_workers.version is 'Version of the program.';
comment on column notification_workers.appids is 'Mini-programs whose secret it has.';
comment on column notification_workers.started_at is 'When it started.';
comment on column notification_workers.heartbeat_at is 'Its last sign of life.';
comment on column notification_workers.in_flight is 'Sends in flight at the last heartbeat.';
comment on column notification_workers.stopped_at is 'When it stopped in order.';

create table wechat_apps (
    appid                 text primary key,
    name                  text,
    rate_per_second       real,
    paused_until          timestamptz,
    pause_reason          text,
    pause_errcode         bigint,
    probing               boolean not null default false,
    created_at            timestamptz not null default now(),
    first_receipt_at      timestamptz,
    quota_daily_limit     bigint,
    quota_used            bigint,
    quota_remaining       bigint,
    quota_rate_per_second real,
    quota_read_at         timestamptz,
    rate_factor           real not null default 1,
    rate_cut_at           timestamptz,
    constraint appid_is_plain check (appid ~ '^[A-Za-z0-9_-]{1,64}$'),
    constraint rate_is_positive check (rate_per_second > 0 and rate_per_second <= 1000000),
    constraint rate_factor_is_a_share check (rate_factor > 0 and rate_factor <= 1),
    constraint quota_rate_is_positive check (quota_rate_per_second > 0)
);

comment on table wechat_apps is 'Mini-programs. No secret is stored here.';
comment on column wechat_apps.appid is 'WeChat''s appid.';
comment on column wechat_apps.name is 'A name for people.';
comment on column wechat_apps.rate_per_second is 'Most sends per second of all workers together, set by an operator; null: as quota/get says.';
comment on column wechat_apps.paused_until is 'Nothing is leased before; infinity: until an operator resumes it.';
comment on column wechat_apps.pause_reason is 'Why it is paused.';
comment on column wechat_apps.pause_errcode is 'The errcode that paused it.';
comment on column wechat_apps.probing is 'After a pause one row at a time is tried until one gets a sound answer.';
comment on column wechat_apps.created_at is 'When it was added.';
comment on column wechat_apps.first_receipt_at is 'When a message was first confirmed by WeChat''s sent event; null: never, its callbacks do not reach us.';
comment on column wechat_apps.quota_daily_limit is 'Sends a day, by quota/get; the day begins at 00:00 China time.';
comment on column wechat_apps.quota_used is 'Sends of the day, by quota/get; of every program that sends for the mini-program.';
comment on column wechat_apps.quota_remaining is 'Sends left of the day, by quota/get. WeChat counts within about 1 %.';
comment on column wechat_apps.quota_rate_per_second is 'Sends per second that quota/get allows; null: it names none.';
comment on column wechat_apps.quota_read_at is 'When quota/get last answered.';
comment on column wechat_apps.rate_factor is 'Share of the rate left by the last halving; a tenth of the rate comes back each minute.';
comment on column wechat_apps.rate_cut_at is 'When the rate was last halved, after 45011.';

create table wechat_rates (
    appid     text primary key references wechat_apps on delete cascade,
    tokens    real not null default 0,
    filled_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on table wechat_rates is 'Token bucket of each mini-program with a rate; workers take slices of it.';
comment on column wechat_rates.appid is 'The mini-program.';
comment on column wechat_rates.tokens is 'Sends left at filled_at.';
comment on column wechat_rates.filled_at is 'When tokens was counted.';

create table wechat_templates (
    appid         text not null,
    template_id   text not null,
    paused_until  timestamptz,
    pause_reason  text,
    pause_errcode bigint,
    title         text,
    kind          text,
    content       text,
    fields        text[],
    enums         jsonb,
    data_check    text not null default 'reject',
    listed_at     timestamptz,
    synced_at     timestamptz,
    removed_at    timestamptz,
    primary key (appid, template_id),
    constraint kind_is_known check (kind in ('one_time', 'long_term')),
    constraint data_check_is_known check (data_check in ('reject', 'truncate', 'off')),
    constraint enums_are_an_object check (jsonb_typeof(enums) = 'object')
) with (autovacuum_analyze_threshold = 20);

comment on table wechat_templates is 'Templates that were paused.';
comment on column wechat_templates.appid is 'The mini-program.';
comment on column wechat_templates.template_id is 'WeChat''s private template id.';
comment on column wechat_templates.paused_until is 'Its rows wait until then; infinity: until an operator resumes it.';
comment on column wechat_templates.pause_reason is 'Why it is paused.';
comment on column wechat_templates.pause_errcode is 'The errcode that paused it.';
comment on column wechat_templates.title is 'Its title, from WeChat''s list; null: never listed.';
comment on column wechat_templates.kind is 'one_time (WeChat''s type 2) or long_term (type 3, also device templates); null: unknown.';
comment on column wechat_templates.content is 'Its text with the places of the fields, as WeChat lists it.';
comment on column wechat_templates.fields is 'The keys of its fields in order; each key begins with its type. Null: unknown, then rows are not checked against it.';
comment on column wechat_templates.enums is 'The values WeChat allows for a key, by key; null: none are listed.';
comment on column wechat_templates.data_check is 'What an INSERT that does not fit meets: reject (refused), truncate (free text that is too long is cut, the rest refused) or off. Set it with set_template_check().';
comment on column wechat_templates.listed_at is 'When WeChat''s list first had it.';
comment on column wechat_templates.synced_at is 'When WeChat''s list last had it. Older than 7 days, nothing is checked against it.';
comment on column wechat_templates.removed_at is 'When it was missing from WeChat''s list; null: it is listed, or the list was never read.';

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

comment on table wechat_refusals is 'Users who refuse a template now: their one_time and long_term rows wait until they accept again.';
comment on column wechat_refusals.appid is 'The mini-program.';
comment on column wechat_refusals.openid is 'The user.';
comment on column wechat_refusals.template_id is 'The template.';
comment on column wechat_refusals.refused_at is 'When, by WeChat''s CreateTime; for 43101 the second in which the send began.';
comment on column wechat_refusals.said_by is 'How we know: popup or change (WeChat''s events), or 43101 on a long_term message.';
comment on column wechat_refusals.noted_at is 'When it was noted here.';

create table wechat_events (
    id              bigint generated always as identity primary key,
    appid           text not null,
    event           text not null,
    openid          text,
    template_id     text,
    msgid           bigint,
    occurred_at     timestamptz not null,
    received_at     timestamptz not null default clock_timestamp(),
    payload         jsonb,
    dedup_hash      bytea,
    error_code      bigint,
    error_status    text,
    apply_at        timestamptz,
    applied_at      timestamptz,
    answer          text,
    notification_id bigint,
    held_id         bigint,
    constraint answer_is_known check (answer in ('accept', 'reject'))
);

create index on wechat_events (appid, openid, template_id) where msgid is not null;

-- A late reply is told apart by its msgid, an event of WeChat by its whole content: of one message it may say two things.
create unique index on wechat_events (appid, event, msgid) where dedup_hash is null;

create unique index on wechat_events (appid, dedup_hash);

create index on wechat_events (apply_at) where apply_at is not null and answer is null;

create index on wechat_events (apply_at) where apply_at is not null and answer is not null;

-- What a user said of a template, the latest word first or counted.
create index on wechat_events (appid, openid, template_id, occurred_at) where answer is not null;

-- Of one accept there is one row, and one row is of one accept.
create unique index on wechat_events (notification_id) where notification_id is not null;

create unique index on wechat_events (held_id) where held_id is not null;

-- For retention: receipts of our rows (0) are forgotten first, then other messages (1), then what users said (2).
create index on wechat_events ((case when msgid is null then 2 when applied_at is null then 1 else 0 end), received_at);

-- Punishments say of what WeChat thinks, not of users; what was punished may be a message's text and stays in the payload.
create index on wechat_events (id) where event = 'wxa_punish_event' and applied_at is null;

comment on table wechat_events is 'What WeChat said about a message outside the settled reply: late replies and callbacks. Evidence that ends doubts.';
comment on column wechat_events.id is 'Order of arrival.';
comment on column wechat_events.appid is 'The mini-program.';
comment on column wechat_events.event is 'late_reply, or the name of WeChat''s event.';
comment on column wechat_events.openid is 'The receiver; null for an event about no user.';
comment on column wechat_events.template_id is 'The template; null for an event about none.';
comment on column wechat_events.msgid is 'WeChat''s msgid of the message it is about.';
comment on column wechat_events.occurred_at is 'When it happened, by WeChat''s word or ours.';
comment on column wechat_events.received_at is 'When it was stored.';
comment on column wechat_events.payload is 'The event as WeChat sent it, as JSON, its List narrowed to the entry this row is about; null for a late reply.';
comment on column wechat_events.dedup_hash is 'SHA-256 over what makes the event the same when WeChat repeats it; null for a late reply.';
comment on column wechat_events.error_code is 'ErrorCode of a sent event: 0 is delivered.';
comment on column wechat_events.error_status is 'ErrorStatus of a sent event: success, or what went wrong.';
comment on column wechat_events.apply_at is 'When its row is looked for (again); null: it is applied, given up, or not applied to rows.';
comment on column wechat_events.applied_at is 'When it was recorded as the receipt of its row; for what a user said, when it was first looked at; of a punishment, when a worker''s log told of it.';
comment on column wechat_events.answer is 'What the user said of the template: accept or reject; null for other events.';
comment on column wechat_events.notification_id is 'For an accept: the notification that is the same tap; null: no row claims it (yet).';
comment on column wechat_events.held_id is 'For an accept that no row claimed in time: the held row that was made of it.';

create table operator_actions (
    id           bigint generated always as identity primary key,
    at           timestamptz not null default clock_timestamp(),
    actor        text not null default session_user,
    action       text not null,
    filter       jsonb not null default '{}',
    rows_changed bigint not null default 0,
    note         text
);

comment on table operator_actions is 'Who did what, with which filter, to how many rows.';
comment on column operator_actions.id is 'Order.';
comment on column operator_actions.at is 'When.';
comment on column operator_actions.actor is 'Who: database user, and the operating system''s user where the command line was used.';
comment on column operator_actions.action is 'The verb.';
comment on column operator_actions.filter is 'Which rows were asked for.';
comment on column operator_actions.rows_changed is 'How many rows it changed.';
comment on column operator_actions.note is 'The operator''s own words.';

create table wechat_errcodes (
    errcode             bigint primary key,
    disposition         text not null,
    credit              text not null default 'unknown',
    pause_secs          integer,
    pause_until         text,
    retries_max         smallint,
    escalate_to         text,
    escalate_counted    text,
    escalate_count      integer,
    escalate_percent    smallint,
    escalate_calls      smallint,
    escalate_secs       integer,
    escalate_pause_secs integer,
    meaning_zh          text not null,
    meaning_en          text not null,
    advice              text not null,
    source              text not null,
    halves_rate         boolean not null default false,
    constraint disposition_is_known check (disposition in ('sent', 'retry', 'refresh_token', 'pause_app', 'pause_template', 'pause_user', 'dead')),
    constraint credit_is_known check (credit in ('kept', 'gone', 'unknown')),
    constraint pause_is_one_span_or_one_rule check (num_nonnulls(pause_secs, pause_until) <= 1),
    constraint pauses_end check (disposition not like 'pause%' or num_nonnulls(pause_secs, pause_until) = 1),
    constraint users_pause_for_a_span check (disposition <> 'pause_user' or pause_secs is not null),
    constraint pause_secs_is_1_to_a_month check (pause_secs between 1 and 2678400),
    constraint pause_until_is_known check (pause_until in ('operator', 'china_midnight', 'next_minute')),
    constraint retries_max_is_0_to_100 check (retries_max between 0 and 100),
    constraint escalate_to_is_known check (escalate_to in ('app', 'template')),
    constraint escalate_counted_is_known check (escalate_counted in ('calls', 'calls_of_one_page', 'openids', 'templates')),
    constraint escalation_is_whole check (
        (escalate_to is null and num_nonnulls(escalate_counted, escalate_count, escalate_percent, escalate_calls, escalate_secs, escalate_pause_secs) = 0)
        or (num_nulls(escalate_to, escalate_counted, escalate_count) = 0 and num_nonnulls(escalate_calls, escalate_secs) = 1)),
    constraint escalate_count_is_1_to_10000 check (escalate_count between 1 and 10000),
    constraint escalate_percent_is_1_to_100 check (escalate_percent between 1 and 100),
    constraint escalate_calls_is_2_to_64 check (escalate_calls between 2 and 64),
    constraint last_calls_are_counted_plainly check (escalate_calls is null or escalate_counted = 'calls'),
    constraint templates_escalate_to_the_app check (escalate_counted <> 'templates' or escalate_to = 'app'),
    constraint escalate_secs_is_10_to_86400 check (escalate_secs between 10 and 86400),
    constraint escalate_pause_secs_is_1_to_a_month check (escalate_pause_secs between 1 and 2678400)
);

comment on table wechat_errcodes is 'What the worker does with each errcode of WeChat. An operator changes it with UPDATE or INSERT; workers read it anew within a minute. Codes that are not listed are retried at most three times, then dead-lettered.';
comment on column wechat_errcodes.errcode is 'WeChat''s errcode.';
comment on column wechat_errcodes.disposition is 'sent; retry (backoff, counts an attempt); refresh_token (once, then as pause_app); pause_app, pause_template, pause_user (the row waits, no attempt counted); dead.';
comment on column wechat_errcodes.credit is 'What became of the user''s credit when a row dies of it: kept, gone or unknown.';
comment on column wechat_errcodes.pause_secs is 'Length of the pause; after it one row is tried, and the pause repeats if that fails the same way. For retry: the least wait.';
comment on column wechat_errcodes.pause_until is 'End of the pause by rule: operator, china_midnight (00:00 UTC+8, when daily quotas begin anew) or next_minute.';
comment on column wechat_errcodes.retries_max is 'Retries after which a row dies of this code even if attempts are left; null: attempts_max alone counts.';
comment on column wechat_errcodes.escalate_to is 'What this code in numbers stops: app or template; null: nothing but its own row.';
comment on column wechat_errcodes.escalate_counted is 'What is counted for it: calls, calls_of_one_page, openids or templates with the code.';
comment on column wechat_errcodes.escalate_count is 'Stops when at least so many were counted.';
comment on column wechat_errcodes.escalate_percent is 'And when the code makes up at least this share of the calls; null: whatever the share.';
comment on column wechat_errcodes.escalate_calls is 'Looks at the last so many calls of the template or app, as one worker sees them.';
comment on column wechat_errcodes.escalate_secs is 'Or at the calls of the last so many seconds.';
comment on column wechat_errcodes.escalate_pause_secs is 'Length of the escalated pause; null: until an operator resumes it.';
comment on column wechat_errcodes.meaning_zh is 'Meaning in Chinese.';
comment on column wechat_errcodes.meaning_en is 'Meaning in English.';
comment on column wechat_errcodes.advice is 'What an operator does next.';
comment on column wechat_errcodes.source is 'Where the meaning comes from.';
comment on column wechat_errcodes.halves_rate is 'The mini-program sent too fast: its rate is halved for some minutes.';

insert into wechat_errcodes (errcode, disposition, credit, pause_secs, pause_until, retries_max, meaning_zh, meaning_en, advice, source) values
-- Success and passing trouble
(0,       'sent',           'gone',    null,  null,             null, '请求成功', 'accepted by WeChat', 'Nothing to do.', 'official docs and SDKs'),
(-1,      'retry',          'unknown', null,  null,             6,    '系统繁忙', 'WeChat is busy', 'Nothing to do unless it lasts: common at volume.', 'official docs and SDKs'),
-- Token and mini-program
(40001,   'refresh_token',  'unknown', 300,   null,             null, 'access_token 无效或不是最新；获取 token 时为 AppSecret 错误', 'access_token invalid or not the latest; from the token call: wrong AppSecret', 'If it lasts, check the AppSecret and whether another system forces token refreshes.', 'official docs and SDKs'),
(40014,   'refresh_token',  'unknown', 300,   null,             null, '不合法的 access_token', 'malformed access_token', 'If it lasts, check that nothing between here and WeChat changes the request.', 'official docs and SDKs'),
(42001,   'refresh_token',  'unknown', 300,   null,             null, 'access_token 超时', 'access_token expired', 'Nothing to do: the token is refreshed. If it lasts, check the clock of the database server.', 'official docs and SDKs'),
(41001,   'pause_app',      'unknown', null,  'operator',       null, '缺少 access_token 参数', 'access_token missing', 'Check that no proxy strips the query of requests, then resume the mini-program.', 'official docs and SDKs'),
(42002,   'pause_app',      'unknown', null,  'operator',       null, 'refresh_token 超时', 'refresh_token expired', 'Belongs to third-party platforms, not to this call: check which account the secret is of.', 'official docs and SDKs'),
(40002,   'pause_app',      'unknown', null,  'operator',       null, '不合法的凭证类型', 'invalid grant_type', 'Check that the API address is WeChat''s, then resume the mini-program.', 'official docs and SDKs'),
(40013,   'pause_app',      'unknown', null,  'operator',       null, '不合法的 AppID', 'invalid appid', 'Check the appid and that it is a mini-program''s.', 'official docs and SDKs'),
(40125,   'pause_app',      'unknown', null,  'operator',       null, '不合法的 AppSecret', 'invalid AppSecret', 'Copy the AppSecret from mp.weixin.qq.com again, restart the worker, then resume the mini-program.', 'official docs and SDKs'),
(41002,   'pause_app',      'unknown', null,  'operator',       null, '缺少 appid 参数', 'appid missing', 'Check that nothing between here and WeChat changes the request.', 'official docs and SDKs'),
(41004,   'pause_app',      'unknown', null,  'operator',       null, '缺少 secret 参数', 'secret missing', 'Check the AppSecret''s setting: it may be empty.', 'official docs and SDKs'),
(40164,   'pause_app',      'unknown', 300,   null,             null, '调用接口的 IP 地址不在白名单中', 'this server''s IP address is not in the whitelist', 'Add the address in the errmsg to the IP whitelist at mp.weixin.qq.com; it is tried again every 5 minutes.', 'official docs and SDKs'),
(61004,   'pause_app',      'unknown', 300,   null,             null, '调用接口的 IP 地址未登记', 'this server''s IP address is not registered', 'As 40164.', 'official docs and SDKs'),
(45035,   'pause_app',      'unknown', 300,   null,             null, '调用接口的 IP 地址未登记', 'this server''s IP address is not registered', 'As 40164.', 'official docs and SDKs'),
(40243,   'pause_app',      'unknown', 600,   null,             null, 'AppSecret 已被冻结', 'the AppSecret is frozen', 'Unfreeze it at mp.weixin.qq.com; that takes about 10 minutes to act. It is tried again every 10 minutes.', 'official docs and SDKs'),
(50004,   'pause_app',      'unknown', null,  'operator',       null, '禁止使用 token 接口', 'the token API is forbidden', 'The account was punished: look at the notices at mp.weixin.qq.com.', 'official docs'),
(50007,   'pause_app',      'unknown', null,  'operator',       null, '账号已冻结', 'the account is frozen', 'The account was punished: look at the notices at mp.weixin.qq.com.', 'official docs'),
(89501,   'pause_app',      'unknown', 300,   null,             null, '有未处理的确认请求', 'an administrator''s confirmation is pending', 'The account''s administrator confirms in WeChat; it is tried again every 5 minutes.', 'WxJava'),
(89502,   'pause_app',      'unknown', 300,   null,             null, '有未处理的确认请求', 'an administrator''s confirmation is pending', 'As 89501.', 'WxJava'),
(89503,   'pause_app',      'unknown', 300,   null,             null, '此 IP 调用需要管理员确认', 'calls from this IP address need the administrator''s confirmation', 'The account''s administrator confirms in WeChat; it is tried again every 5 minutes.', 'official docs and SDKs'),
(89504,   'pause_app',      'unknown', 300,   null,             null, '有未处理的确认请求', 'an administrator''s confirmation is pending', 'As 89501.', 'WxJava'),
(89505,   'pause_app',      'unknown', 300,   null,             null, '有未处理的确认请求', 'an administrator''s confirmation is pending', 'As 89501.', 'WxJava'),
(89506,   'pause_app',      'unknown', 86400, null,             null, '24 小时内该 IP 被管理员拒绝调用', 'the administrator refused this IP address for 24 hours', 'Speak with the account''s administrator; sooner calls are useless.', 'official docs and SDKs'),
(89507,   'pause_app',      'unknown', 3600,  null,             null, '1 小时内该 IP 被管理员拒绝调用', 'the administrator refused this IP address for an hour', 'Speak with the account''s administrator; sooner calls are useless.', 'official docs and SDKs'),
(43001,   'pause_app',      'unknown', null,  'operator',       null, '需要 GET 请求', 'must be a GET request', 'Check that the API address is WeChat''s and no proxy changes the method.', 'official docs and SDKs'),
(43002,   'pause_app',      'unknown', null,  'operator',       null, '需要 POST 请求', 'must be a POST request', 'Check that the API address is WeChat''s and no proxy changes the method.', 'official docs and SDKs'),
(43003,   'pause_app',      'unknown', null,  'operator',       null, '需要 HTTPS 请求', 'must be an HTTPS request', 'Check that the API address begins with https://.', 'official docs and SDKs'),
(45009,   'pause_app',      'unknown', null,  'china_midnight', null, '接口调用超过每日限额', 'the daily quota of this API is used up', 'It begins anew at 00:00 China time. To send sooner, clear the quota at mp.weixin.qq.com (10 times a month) and resume the mini-program.', 'official docs and SDKs'),
(45011,   'pause_app',      'unknown', null,  'next_minute',    null, 'API 调用太频繁，超过分钟频率', 'the quota of this minute is used up', 'If it comes often, set a rate for the mini-program.', 'official docs and SDKs'),
(44990,   'pause_app',      'unknown', 2,     null,             null, '接口请求太快', 'too many calls in a second', 'If it comes often, set a rate for the mini-program.', 'SDKs'),
(48001,   'pause_app',      'unknown', null,  'operator',       null, '接口功能未授权', 'the API is not authorised for this account', 'Check at mp.weixin.qq.com that subscription messages are enabled and that the secret is of this mini-program.', 'official docs and SDKs'),
(48004,   'pause_app',      'unknown', null,  'operator',       null, '接口被封禁', 'the API is banned for violations', 'The account was punished: look at the notices at mp.weixin.qq.com.', 'official docs and SDKs'),
(48008,   'pause_template', 'unknown', null,  'operator',       null, '没有该类型消息的发送权限', 'no permission for this type of message', 'Check the template at mp.weixin.qq.com, then resume it.', 'WxJava'),
(50001,   'dead',           'kept',    null,  null,             null, '用户未授权该 API', 'the user has not authorised this API', 'Not expected here. If many rows end so, check which account the openids are of.', 'official docs and SDKs'),
(61007,   'pause_app',      'unknown', null,  'operator',       null, '接口未授权给第三方平台', 'the API is not authorised to the third-party platform', 'The mini-program''s owner authorises message permissions to the platform.', 'official docs and SDKs'),
(40234,   'pause_app',      'unknown', null,  'operator',       null, 'API 安全：签名错误', 'API security mode: bad signature', 'API security (signed and encrypted requests) is on for this mini-program and not supported: turn it off at mp.weixin.qq.com, then resume.', 'developer community'),
(934011,  'pause_app',      'unknown', null,  'operator',       null, 'API 安全：需要加密请求', 'API security mode: the request must be encrypted', 'As 40234.', 'developer community'),
(43104,   'pause_app',      'unknown', null,  'operator',       null, '此 AppID 没有权限', 'this appid has no permission for the message', 'Check at mp.weixin.qq.com that subscription messages are enabled.', 'WxJava'),
(40251,   'pause_app',      'unknown', null,  'china_midnight', null, '账号因违规达到发送上限', 'the account''s own cap on sends is reached, after violations', 'Look at the notices at mp.weixin.qq.com.', 'official docs and SDKs'),
-- Row, template and user
(43101,   'dead',           'gone',    null,  null,             null, '用户拒绝接受消息：未订阅、次数已用完或已拒收', 'the user has no credit left, never subscribed, or refuses', 'Normal at volume. If a template''s share jumps, the record of credits is wrong: check that one accept makes one row.', 'official docs and SDKs'),
(40037,   'pause_template', 'unknown', null,  'operator',       null, '不合法的 template_id', 'invalid template_id', 'The template was deleted or belongs to another mini-program: correct it or add it, then resume the template.', 'official docs and SDKs'),
(40036,   'pause_template', 'unknown', null,  'operator',       null, '不合法的 template_id 长度', 'template_id of invalid length', 'As 40037.', 'WxJava'),
(43108,   'pause_user',     'unknown', 2,     null,             null, '对同一用户并发下发', 'two calls for one user at the same moment', 'Nothing to do unless another system sends to the same users.', 'official docs and SDKs'),
(43116,   'pause_template', 'unknown', null,  'operator',       null, '模板因滥用被限制下发', 'the template is restricted after abuse', 'Look at the notices at mp.weixin.qq.com, then resume the template.', 'official docs and SDKs'),
(45168,   'dead',           'kept',    null,  null,             null, '命中敏感词', 'the text holds a blacklisted word', 'Change the text and insert a corrected copy: the credit is kept.', 'official docs and SDKs'),
(47001,   'dead',           'kept',    null,  null,             null, '解析 JSON/XML 内容错误', 'the request is not readable JSON', 'Report it as a fault of this program, with the row''s data.', 'official docs and SDKs'),
(47002,   'dead',           'kept',    null,  null,             null, '请求体编码错误（不支持 \uXXXX）', 'the request''s encoding is refused', 'Report it as a fault of this program, with the row''s data.', 'official docs and SDKs'),
(40033,   'dead',           'kept',    null,  null,             null, '不合法的请求字符（不支持 \uXXXX）', 'the request holds \uXXXX escapes', 'Report it as a fault of this program, with the row''s data.', 'official docs and SDKs'),
(44002,   'retry',          'kept',    null,  null,             1,    'POST 的数据包为空', 'the request''s body is empty', 'Check that no proxy drops bodies of requests.', 'official docs and SDKs'),
(40097,   'dead',           'kept',    null,  null,             null, '参数错误', 'invalid arguments', 'Correct the row''s fields and insert a corrected copy.', 'official docs and SDKs'),
(40035,   'dead',           'kept',    null,  null,             null, '不合法的参数', 'invalid parameter', 'Correct the row''s fields and insert a corrected copy.', 'official docs and SDKs'),
(41011,   'dead',           'kept',    null,  null,             null, '缺少必填字段', 'a required field is missing', 'Correct the row''s fields and insert a corrected copy.', 'official docs and SDKs'),
(45047,   'pause_user',     'unknown', 86400, null,             null, '客服接口下行条数超过上限', 'too many customer-service messages to the user', 'Not expected from this API; the row is tried again after a day.', 'official docs and SDKs'),
(40249,   'dead',           'kept',    null,  null,             null, '营销内容被拒绝', 'marketing content is refused', 'Change the text and insert a corrected copy.', 'SDKs'),
(40250,   'dead',           'kept',    null,  null,             null, '内容不符合要求（如为空）', 'the content is not proper, for example empty', 'Change the text and insert a corrected copy.', 'SDKs'),
(40252,   'pause_template', 'unknown', 3600,  null,             null, '内容正在平台审核', 'the content is under review', 'Wait: it is tried again every hour.', 'SDKs'),
(40032,   'dead',           'kept',    null,  null,             null, '不合法的 openid 列表大小', 'invalid size of the list of openids', 'Report it as a fault of this program: a device message goes to one receiver.', 'developer community'),
(40038,   'dead',           'kept',    null,  null,             null, '不合法的请求格式', 'malformed request', 'Report it as a fault of this program, with the row''s data.', 'official docs and SDKs'),
(9800001, 'dead',           'kept',    null,  null,             null, '设备 sn 过长', 'the device''s sn is longer than 128 bytes', 'Correct the row''s extra and insert a corrected copy.', 'official docs'),
(9800002, 'dead',           'kept',    null,  null,             null, '设备 sn 含非法字符', 'the device''s sn holds illegal characters', 'Correct the row''s extra and insert a corrected copy.', 'official docs'),
(9800003, 'dead',           'kept',    null,  null,             null, '设备 model_id 校验失败', 'the device''s model_id is refused', 'Correct the row''s extra and insert a corrected copy.', 'official docs'),
(9800006, 'dead',           'kept',    null,  null,             null, '设备 sn 或 model_id 与订阅时不一致', 'sn and model_id are not those of the subscription', 'Correct the row''s extra and insert a corrected copy.', 'developer community');

insert into wechat_errcodes (errcode, disposition, credit, pause_until, escalate_to, escalate_counted, escalate_count, escalate_percent, escalate_calls, escalate_secs, escalate_pause_secs, meaning_zh, meaning_en, advice, source) values
(40003, 'dead',           'unknown', null,       'app',      'calls',             10, 20,   null, 300,  600,  '不合法的 OpenID', 'invalid openid', 'The openid is of another mini-program, or mistyped. If it is a large share, the token and the openids are of different mini-programs.', 'official docs and SDKs'),
(50002, 'dead',           'unknown', null,       'app',      'openids',           5,  null, null, 300,  600,  '用户受限，可能是账号被冻结或注销', 'the user''s account is limited, frozen or deleted; in some tables: the mini-program''s', 'Nothing to do for single users. For many, look at the notices at mp.weixin.qq.com.', 'official docs and SDKs, which disagree'),
(41030, 'dead',           'kept',    null,       'template', 'calls_of_one_page', 10, null, null, 300,  3600, 'page 路径不正确', 'no such page', 'The page must be in the released version, without a leading slash. Insert a corrected copy.', 'official docs and SDKs'),
(40165, 'dead',           'kept',    null,       'template', 'calls_of_one_page', 10, null, null, 300,  3600, '不合法的小程序 page 路径', 'no such page', 'As 41030.', 'official docs and SDKs'),
(43107, 'pause_template', 'unknown', 'operator', 'app',      'templates',         2,  null, null, 3600, null, '订阅消息能力被封禁', 'the ability to send is banned, for the account or the template', 'The account was punished: look at the notices at mp.weixin.qq.com, then resume the template.', 'official docs and SDKs'),
(47003, 'dead',           'kept',    null,       'template', 'calls',             10, 50,   20,   null, 1800, '模板参数不准确：字段为空或不满足规则', 'a field is empty or breaks its rule; the errmsg names it', 'Correct that field and insert a corrected copy. If a template fails in numbers, it was changed: compare its fields.', 'official docs and SDKs');

-- Login codes (jscode2session). Nothing was sent: a one-time credit is kept, but the row never learns its receiver.
insert into wechat_errcodes (errcode, disposition, credit, pause_secs, pause_until, retries_max, meaning_zh, meaning_en, advice, source) values
(40029,   'dead',           'kept',    null,  null,             null, '登录 code 无效或已过期', 'the login code is invalid or expired', 'Have the page call wx.login again and insert a new row at once: a code lives for 5 minutes.', 'official docs and SDKs'),
(40163,   'dead',           'kept',    null,  null,             null, '登录 code 已被使用', 'the login code was used before', 'A code works once: if your own server exchanges it too, give the row the openid instead.', 'developer community and SDKs'),
(40226,   'dead',           'kept',    null,  null,             null, '高风险用户，登录被拦截', 'the login of a high-risk user is blocked', 'WeChat blocks this user; nothing to do.', 'official docs and SDKs'),
(41008,   'dead',           'kept',    null,  null,             null, '缺少 code 参数', 'the login code is missing', 'Check what the page reports as login_code.', 'official docs'),
-- Service cards
(85431,   'retry',          'kept',    null,  null,             null, '服务卡片：系统繁忙', 'service card: WeChat is busy', 'Nothing to do unless it lasts.', 'official docs'),
(85433,   'dead',           'kept',    null,  null,             null, '服务卡片：check_json 有误', 'service card: check_json is bad', 'Correct the row''s extra.check_json and insert a corrected copy.', 'official docs'),
(85434,   'pause_template', 'kept',    null,  'operator',       null, '服务卡片：notify_type 有误', 'service card: bad notify_type', 'Check the card at mp.weixin.qq.com and the row''s template_id (its notify_type), then resume it.', 'official docs'),
(85461,   'pause_template', 'kept',    null,  'operator',       null, '服务卡片：该卡片未开通', 'service card: this card is not admitted', 'Apply for the card at mp.weixin.qq.com, then resume it.', 'official docs'),
(85462,   'pause_template', 'kept',    null,  'operator',       null, '服务卡片：小程序未开通', 'service card: the mini-program is not admitted', 'Apply for service cards at mp.weixin.qq.com, then resume the card.', 'official docs'),
(85435,   'dead',           'kept',    null,  null,             null, '服务卡片：content_json 有误', 'service card: content_json is bad', 'Correct the row''s data and insert a corrected copy.', 'official docs'),
(85440,   'dead',           'kept',    null,  null,             null, '服务卡片：content_json 缺少字段', 'service card: content_json lacks a field', 'Add the fields this state needs and insert a corrected copy.', 'official docs'),
(85441,   'dead',           'kept',    null,  null,             null, '服务卡片：content_json 字段格式有误', 'service card: a field of content_json has a wrong form', 'Correct the row''s data and insert a corrected copy.', 'official docs'),
(85443,   'dead',           'kept',    null,  null,             null, '服务卡片：content_json 不是 UTF-8', 'service card: content_json is not UTF-8', 'Report it as a fault of this program, with the row''s data.', 'official docs'),
(85436,   'dead',           'kept',    null,  null,             null, '服务卡片：code 已被封禁', 'service card: the code is blocked', 'Nothing more can be sent for this payment or tap.', 'official docs'),
(85437,   'retry',          'kept',    60,    null,             5,    '服务卡片：code 不存在', 'service card: the code does not exist', 'A fresh payment takes a minute to be known. If it lasts, notify_code must be WeChat Pay''s transaction id, not the merchant''s order number.', 'official docs and developer community'),
(85438,   'dead',           'kept',    null,  null,             null, '服务卡片：code 已过期（或 check_json 与支付不符）', 'service card: the code has expired, or check_json does not match the payment', 'Compare pay_amount and pay_time of extra.check_json with the payment first.', 'official docs and developer community'),
(85439,   'dead',           'kept',    null,  null,             null, '服务卡片：不允许的状态', 'service card: this state may not follow the card''s present one', 'The card''s state was read back and is an earlier one: check the order of the states.', 'official docs'),
(85442,   'dead',           'kept',    null,  null,             null, '服务卡片：内容未通过审核', 'service card: the content failed its audit', 'Change the text and insert a corrected copy.', 'official docs'),
(85448,   'sent',           'kept',    null,  null,             null, '服务卡片：该状态已推送', 'service card: this state was pushed before', 'Nothing to do.', 'official docs'),
(85449,   'pause_user',     'kept',    2,     null,             null, '服务卡片：code 正在更新', 'service card: the code is locked by another update', 'Nothing to do unless another system updates the same cards.', 'official docs'),
(85444,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 的 pay_info 校验失败', 'service card: pay_info of ext_json is refused', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85445,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 的 store_info 校验失败', 'service card: store_info of ext_json is refused', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85446,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 的 shipping_list 校验失败', 'service card: shipping_list of ext_json is refused', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85447,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 的 product_list 校验失败', 'service card: product_list of ext_json is refused', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85470,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 无效', 'service card: ext_json is invalid', 'Correct the row''s extra.ext_json and insert a corrected copy.', 'official docs'),
(85471,   'dead',           'kept',    null,  null,             null, '服务卡片：ext_json 不是 UTF-8', 'service card: ext_json is not UTF-8', 'Report it as a fault of this program, with the row''s extra.', 'official docs');

-- Codes of other APIs that look as if they belonged here: handled as if they were not listed, but with their meaning.
insert into wechat_errcodes (errcode, disposition, retries_max, escalate_to, escalate_counted, escalate_count, escalate_percent, escalate_secs, escalate_pause_secs, meaning_zh, meaning_en, advice, source)
select code, 'retry', 3, 'app', 'calls', 5, 20, 300, 600, zh, en, 'Not expected from this API: check that the API address is WeChat''s.', 'official docs and SDKs'
from (values
    (45157,   '标签名非法', 'illegal name of a tag'),
    (85017,   '没有新增域名', 'no new server domain'),
    (9410000, '直播间列表为空', 'no live rooms'),
    (9410001, '获取直播间失败', 'live room not available'),
    (9410002, '获取商品失败', 'live goods not available'),
    (9410003, '获取回放失败', 'live replay not available')) as elsewhere (code, zh, en);

update wechat_errcodes set halves_rate = true where errcode in (45011, 44990);

create table wechat_access_tokens (
    appid             text primary key,
    access_token      text,
    expires_at        timestamptz,
    generation        bigint not null default 0,
    unchanged         smallint not null default 0,
    fetched_at        timestamptz,
    refreshed_by      text,
    claim             bigint not null default 0,
    claimed_until     timestamptz,
    claimed_by        text,
    forced_count      smallint not null default 0,
    forced_on         date,
    last_forced_at    timestamptz,
    foreign_refreshes bigint not null default 0,
    last_foreign_at   timestamptz,
    constraint token_has_a_sane_length check (octet_length(access_token) between 1 and 2048),
    constraint token_has_a_life check ((access_token is null) = (expires_at is null))
);

comment on table wechat_access_tokens is 'The access token of each mini-program, shared by all workers. Readable by the worker''s role alone.';
comment on column wechat_access_tokens.appid is 'The mini-program.';
comment on column wechat_access_tokens.access_token is 'The token. Secret.';
comment on column wechat_access_tokens.expires_at is 'End of its life by WeChat''s word, less the time the reply took.';
comment on column wechat_access_tokens.generation is 'Grows with each replacement; who reports a failed token names its generation.';
comment on column wechat_access_tokens.unchanged is 'How often in a row WeChat handed back the very token that had failed.';
comment on column wechat_access_tokens.fetched_at is 'When it was fetched last.';
comment on column wechat_access_tokens.refreshed_by is 'The worker that fetched it, name and epoch.';
comment on column wechat_access_tokens.claim is 'Number of the latest claim to fetch a token.';
comment on column wechat_access_tokens.claimed_until is 'Until then others wait for the claim''s result; after it they may claim. Null: nobody fetches.';
comment on column wechat_access_tokens.claimed_by is 'The worker that has the claim.';
comment on column wechat_access_tokens.forced_count is 'Forced refreshes on forced_on; WeChat allows 20 a day.';
comment on column wechat_access_tokens.forced_on is 'The day in China (UTC+8) that forced_count counts.';
comment on column wechat_access_tokens.last_forced_at is 'The last forced refresh; WeChat wants 30 s between two.';
comment on column wechat_access_tokens.foreign_refreshes is 'How often the token died early without us: something else refreshes it by force.';
comment on column wechat_access_tokens.last_foreign_at is 'When that was noticed last.';

-- Which row was sent anew from which final one. A table of its own: the hot table need not carry it.
create table notification_redrives (
    redriven_id bigint primary key,
    new_id      bigint not null unique,
    appid       text not null,
    at          timestamptz not null default clock_timestamp(),
    actor       text not null
);

comment on table notification_redrives is 'Redrives: the final row, which stays in notification_history, and the new row that was inserted from it.';
comment on column notification_redrives.redriven_id is 'The final row.';
comment on column notification_redrives.new_id is 'The row inserted from it.';
comment on column notification_redrives.appid is 'The mini-program.';
comment on column notification_redrives.at is 'When.';
comment on column notification_redrives.actor is 'Who.';

create table wechat_lookups (
    appid         text not null references wechat_apps on delete cascade,
    lookup        text not null,
    due_at        timestamptz not null default clock_timestamp(),
    claim         bigint not null default 0,
    claimed_by    text,
    claimed_until timestamptz,
    done_at       timestamptz,
    failed_at     timestamptz,
    failures      integer not null default 0,
    errcode       bigint,
    error         text,
    primary key (appid, lookup),
    constraint lookup_is_known check (lookup in ('templates', 'quota'))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

comment on table wechat_lookups is 'What workers ask WeChat from time to time about each mini-program: its templates (gettemplate) and its quota (quota/get). One worker asks, whoever claims the row first.';
comment on column wechat_lookups.appid is 'The mini-program.';
comment on column wechat_lookups.lookup is 'templates or quota.';
comment on column wechat_lookups.due_at is 'When it is asked next.';
comment on column wechat_lookups.claim is 'Number of the latest claim; an answer to an older one changes nothing.';
comment on column wechat_lookups.claimed_by is 'Who is asking now.';
comment on column wechat_lookups.claimed_until is 'Until then nobody else asks; null: nobody is asking.';
comment on column wechat_lookups.done_at is 'When WeChat last answered.';
comment on column wechat_lookups.failed_at is 'When asking last failed; null: not since done_at.';
comment on column wechat_lookups.failures is 'Failures in a row; each waits longer.';
comment on column wechat_lookups.errcode is 'WeChat''s errcode of the last failure.';
comment on column wechat_lookups.error is 'The last failure in words.';

-- Greater than zero while a worker sleeps. A sequence, since a table row updated at every arming would bloat under a
-- long transaction, and because a sequence is read without a snapshot.
create sequence notification_bell minvalue 0 start 0;
select setval('notification_bell', 0);
comment on sequence notification_bell is 'Above zero while a worker sleeps and wants to be woken by NOTIFY.';

-- What lease returns.
create type wxnotify_leased as (
    lease_id bigint, low_lease_id bigint, leased_at timestamptz, id bigint, kind text, openid text, template_id text, page text, data text,
    extra text, miniprogram_state text, lang text, due timestamptz, attempts smallint, attempts_max smallint,
    in_doubt boolean, expire_at timestamptz, waiting_since timestamptz, probe boolean, started_at timestamptz);
comment on type wxnotify_leased is 'One leased row, as lease returns it.';
