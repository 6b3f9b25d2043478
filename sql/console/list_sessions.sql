select name, began_at, seen_at, ends_at, address from console_sessions where ends_at > now() order by seen_at desc limit 200
