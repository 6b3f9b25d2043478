-- A new password ends the sessions. $1 name, $2 hash
with changed as (update console_users set password_hash = $2, changed_at = clock_timestamp() where name = $1 returning name),
     ended as (delete from console_sessions where name in (select name from changed))
select name from changed
