-- A verb over many rows: the set that was previewed, done a bounded part at a time, at a pace, until it ends or is stopped.
create table operator_batches (
    id              bigint generated always as identity primary key,
    verb            text not null,
    state           text not null default 'preview',
    actor           text not null,
    filter          jsonb not null default '{}',
    more            boolean not null default false,
    note            text,
    pace_per_minute integer,
    previewed_at    timestamptz not null default clock_timestamp(),
    started_at      timestamptz,
    stepped_at      timestamptz,
    ended_at        timestamptz,
    ended_by        text,
    constraint verb_is_known check (verb in ('redrive', 'cancel', 'undo')),
    constraint state_is_known check (state in ('preview', 'running', 'stopped', 'done')),
    constraint pace_is_positive check (pace_per_minute > 0),
    constraint started_is_explained check (state = 'preview' or (note is not null and started_at is not null))
);
comment on table operator_batches is 'Verbs over many rows: previewed, then started by somebody with a reason. Use preview_batch(), start_batch(), stop_batch().';
comment on column operator_batches.id is 'Order.';
comment on column operator_batches.verb is 'redrive, cancel, or undo: cancel what a redrive made and was not sent.';
comment on column operator_batches.state is 'preview (for 15 minutes), running, stopped or done.';
comment on column operator_batches.actor is 'Who previewed it; only they start it.';
comment on column operator_batches.filter is 'Which rows were asked for; for undo, the batch that is undone.';
comment on column operator_batches.more is 'True: more rows matched than a batch takes.';
comment on column operator_batches.note is 'Why, in the operator''s words.';
comment on column operator_batches.pace_per_minute is 'At most so many rows a minute; null: as fast as it goes.';
comment on column operator_batches.previewed_at is 'When its rows were chosen.';
comment on column operator_batches.started_at is 'When it was started.';
comment on column operator_batches.stepped_at is 'When its last part was done.';
comment on column operator_batches.ended_at is 'When it was done or stopped.';
comment on column operator_batches.ended_by is 'Who stopped it; null: it came to its end.';

create index running_batches on operator_batches (id) where state = 'running';

create table operator_batch_rows (
    batch_id bigint not null references operator_batches on delete cascade,
    id       bigint not null,
    cause    text not null,
    result   text,
    new_id   bigint,
    primary key (batch_id, id)
);
comment on table operator_batch_rows is 'The rows of a batch, fixed at its preview, and what became of each.';
comment on column operator_batch_rows.batch_id is 'The batch.';
comment on column operator_batch_rows.id is 'The notification.';
comment on column operator_batch_rows.cause is 'What it had come to at the preview: its status, and errcode if any.';
comment on column operator_batch_rows.result is 'What the verb said; null: not done yet.';
comment on column operator_batch_rows.new_id is 'For a redrive: the row that was inserted for it.';

create index batch_rows_not_done on operator_batch_rows (batch_id, id) where result is null;

-- People of the console. The database knows their roles: what a page asks runs as wxnotify_viewer or wxnotify_operator.
create table console_users (
    name          text primary key,
    role          text not null,
    password_hash text not null,
    created_at    timestamptz not null default clock_timestamp(),
    changed_at    timestamptz not null default clock_timestamp(),
    constraint role_is_known check (role in ('viewer', 'operator', 'admin')),
    constraint name_is_plain check (name ~ '^[[:alnum:]][[:alnum:]._@-]*$' and length(name) <= 64)
);
comment on table console_users is 'People who may log in to the console: wxnotify console user.';
comment on column console_users.name is 'As they log in, and as operator_actions names them.';
comment on column console_users.role is 'viewer: sees no receiver and no message; operator: the verbs; admin: the sessions of others, too.';
comment on column console_users.password_hash is 'Argon2id, in PHC form.';
comment on column console_users.created_at is 'When they were added.';
comment on column console_users.changed_at is 'When the password or role last changed.';

create table console_sessions (
    token_hash bytea primary key,
    name       text not null references console_users on delete cascade,
    began_at   timestamptz not null default clock_timestamp(),
    seen_at    timestamptz not null default clock_timestamp(),
    ends_at    timestamptz not null,
    address    text not null
);
comment on table console_sessions is 'Who is logged in to the console. Deleting a row logs them out.';
comment on column console_sessions.token_hash is 'SHA-256 of the cookie''s value.';
comment on column console_sessions.name is 'Who.';
comment on column console_sessions.began_at is 'When they logged in.';
comment on column console_sessions.seen_at is 'Their last request, to the minute.';
comment on column console_sessions.ends_at is 'When it ends whatever they do.';
comment on column console_sessions.address is 'From where.';

create table console_tries (
    id       bigint generated always as identity primary key,
    name     text not null,
    address  text not null,
    tried_at timestamptz not null default clock_timestamp()
);
comment on table console_tries is 'Log-ins that failed in the last hour: they slow the next ones down.';
comment on column console_tries.id is 'Order.';
comment on column console_tries.name is 'The name that was tried.';
comment on column console_tries.address is 'From where.';
comment on column console_tries.tried_at is 'When.';

create index console_tries_at on console_tries (tried_at);
