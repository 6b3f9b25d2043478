-- Who has this session. Its last request is noted to the minute. $1 hash of the cookie's value
with seen as (update console_sessions set seen_at = now() where token_hash = $1 and ends_at > now() and seen_at < now() - interval '1 minute')
select u.name, u.role from console_sessions s join console_users u on u.name = s.name where s.token_hash = $1 and s.ends_at > now()
