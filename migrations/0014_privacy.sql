-- The key of the pseudonyms that stand for erased receivers. Of this database alone: a restored copy keeps its pseudonyms.
create table privacy_key (
    only_one boolean primary key default true,
    key      bytea not null,
    constraint there_is_one check (only_one)
);
comment on table privacy_key is 'Makes the pseudonyms of erased receivers; made with the first of them. wxnotify''s own; nobody may read it.';
comment on column privacy_key.only_one is 'There is one row.';
comment on column privacy_key.key is '32 random bytes.';

alter table notification_books
    drop constraint book_is_known,
    add constraint book_is_known check (book in ('unconfirmed', 'data', 'openids'));
comment on column notification_books.book is 'unconfirmed: notification_unconfirmed_ids; data and openids: how far texts and receivers of the history were forgotten.';
