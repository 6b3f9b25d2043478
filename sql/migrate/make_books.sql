-- What a schema knows of itself. One row says which level and text it has; a row a text, what was applied last.
create table if not exists wxnotify_schema (
    is_the_only_row boolean primary key default true,
    level           integer not null,
    serves          integer not null,
    release         text not null,
    fingerprint     text not null,
    rights          text not null default '',
    applied_at      timestamptz not null default now(),
    constraint there_is_one_row check (is_the_only_row),
    constraint serves_is_1_to_level check (serves between 1 and level)
);
comment on table wxnotify_schema is 'Which schema this is. Written by `wxnotify migrate` alone; a program checks it when it starts.';
comment on column wxnotify_schema.is_the_only_row is 'True.';
comment on column wxnotify_schema.level is 'Number of the newest file of migrations/ that was applied.';
comment on column wxnotify_schema.serves is 'The oldest level whose programs work on this schema. A program of an older level is to be replaced.';
comment on column wxnotify_schema.release is 'The release of wxnotify that wrote it.';
comment on column wxnotify_schema.fingerprint is 'SHA-256 over all its texts; empty: a migration began and has not ended.';
comment on column wxnotify_schema.rights is 'Digest of what our roles may do, as it was after the grants: when it is another, they are granted again.';
comment on column wxnotify_schema.applied_at is 'When it was written.';
create table if not exists wxnotify_schema_texts (
    kind       text not null,
    name       text not null,
    hash       text not null,
    applied_at timestamptz not null default now(),
    primary key (kind, name),
    constraint kind_is_known check (kind in ('function', 'view', 'trigger', 'policy', 'rights'))
);
comment on table wxnotify_schema_texts is 'The functions, views, triggers, policies and grants of this schema, and which text of each was applied. A text of another hash is applied by the next `wxnotify migrate`.';
comment on column wxnotify_schema_texts.kind is 'function, view, trigger, policy or rights.';
comment on column wxnotify_schema_texts.name is 'Its name; of a trigger or policy with the table''s: pending_notifications.guard.';
comment on column wxnotify_schema_texts.hash is 'SHA-256 of its text, and for a view also of the views it reads.';
comment on column wxnotify_schema_texts.applied_at is 'When it was applied.';
