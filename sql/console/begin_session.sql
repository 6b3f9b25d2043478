-- $1 hash of the cookie's value, $2 name, $3 seconds it lasts, $4 address. Old ones are cleared away on the way.
with cleared as (delete from console_sessions where ends_at < now())
insert into console_sessions (token_hash, name, ends_at, address) values ($1, $2, now() + make_interval(secs => $3), $4)
