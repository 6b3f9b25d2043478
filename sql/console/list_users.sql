select u.name, u.role, u.created_at, (select count(*) from console_sessions s where s.name = u.name and s.ends_at > now()) as sessions from console_users u order by u.name
