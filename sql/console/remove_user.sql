-- $1 name
delete from console_users where name = $1 returning name
