select name, role, password_hash from console_users where name = $1
