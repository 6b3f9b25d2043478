-- A log-in that failed. $1 name, $2 address
with cleared as (delete from console_tries where tried_at < now() - interval '1 hour')
insert into console_tries (name, address) values (left($1, 64), $2)
