-- $1 hash of the cookie's value
delete from console_sessions where token_hash = $1
