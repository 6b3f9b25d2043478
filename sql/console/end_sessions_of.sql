-- $1 name
delete from console_sessions where name = $1
