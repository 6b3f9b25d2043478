-- What WeChat accepted and has not confirmed, listed as far as kept_until: without the list the view reads all of the history for the few rows
-- that nobody confirmed. Workers keep it; INSERT, lease, settle and receipts write nothing for it.
create table notification_unconfirmed_ids (
    finished_at timestamptz not null,
    id          bigint not null,
    primary key (finished_at, id)
);

comment on table notification_unconfirmed_ids is 'Notifications that had no receipt an hour after WeChat accepted them; wxnotify''s own, for notification_unconfirmed.';
comment on column notification_unconfirmed_ids.finished_at is 'When the notification ended: it finds the partition.';
comment on column notification_unconfirmed_ids.id is 'The notification.';

create table notification_books (
    book        text primary key,
    kept_until  timestamptz not null,
    next_until  timestamptz not null,
    next_xid    bigint not null,
    struck_until timestamptz not null,
    struck_id   bigint not null,
    constraint book_is_known check (book in ('unconfirmed'))
);

comment on table notification_books is 'How far each book that workers keep of the history has come.';
comment on column notification_books.book is 'unconfirmed: notification_unconfirmed_ids.';
comment on column notification_books.kept_until is 'It holds what ended before; views read the rows that ended since.';
comment on column notification_books.next_until is 'How far it may come next, when no transaction older than next_xid is left.';
comment on column notification_books.next_xid is 'The first transaction that had not begun at next_until.';
comment on column notification_books.struck_until is 'How far its entries were compared with their rows in this round: entries that no longer hold are struck out.';
comment on column notification_books.struck_id is 'The entry of that time which was compared last.';
