-- The shop's own table, beside wxnotify's in one database.
create table shop_orders (
    id         bigint generated always as identity primary key,
    request_id text not null unique,
    openid     text not null,
    item       text not null,
    created_at timestamptz not null default now()
);
