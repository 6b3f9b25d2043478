-- $1 name, $2 role, $3 hash. Nothing comes back when there is one of that name.
insert into console_users (name, role, password_hash) values ($1, $2, $3) on conflict (name) do nothing returning name
