-- Failed log-ins of the last 15 minutes: of this name, and from this address. $1 name, $2 address
select count(*) filter (where name = left($1, 64)) as of_name, count(*) filter (where address = $2) as of_address
from console_tries where tried_at > now() - interval '15 minutes' and (name = left($1, 64) or address = $2)
