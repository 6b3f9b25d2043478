-- Where we are: the server, the database, the schema that new objects go to, and whether it holds our books or sqlx's.
select current_setting('server_version') as version, current_setting('server_version_num')::int as version_num,
       current_database()::text as database, current_setting('server_encoding') as encoding, current_schema()::text as schema,
       to_regclass(quote_ident(current_schema()) || '.wxnotify_schema') is not null as has_books,
       to_regclass(quote_ident(current_schema()) || '._sqlx_migrations') is not null as has_sqlx_books
