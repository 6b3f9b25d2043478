-- Asked by the policy of confined producers, for every row that a producer inserts. SECURITY DEFINER: a producer may not see whom else
-- it is about.
create or replace function wxnotify_may_name(p_appid text) returns boolean
language sql stable security definer set search_path from current as $$
    select coalesce((select p_appid = any (n.appids) from notification_producers n where n.login = session_user), true)
$$;

comment on function wxnotify_may_name is 'Whether the session''s login may insert for a mini-program.';

grant execute on function wxnotify_may_name to wxnotify_worker, wxnotify_producer;
