-- Logins that may insert for some mini-programs alone. Empty, and without a policy, until somebody is confined: then every INSERT of
-- a producer looks here.
create table notification_producers (
    login       name primary key,
    appids      text[] not null,
    confined_at timestamptz not null default clock_timestamp(),
    confined_by text not null default session_user,
    constraint appids_are_named check (cardinality(appids) > 0 and array_position(appids, null) is null)
);
comment on table notification_producers is 'Producers that may insert for some mini-programs alone: confine_producer() and release_producer(). A login that is not here may name any.';
comment on column notification_producers.login is 'The database login.';
comment on column notification_producers.appids is 'The mini-programs it may name.';
comment on column notification_producers.confined_at is 'Since when.';
comment on column notification_producers.confined_by is 'Who confined it.';
