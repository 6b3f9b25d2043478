-- The lanes that have something due.
create or replace function wxnotify_ready() returns table (appid text, lane smallint, due timestamptz)
language sql stable set search_path from current as $$
    select f.appid, f.lane, f.due from wxnotify_fronts() f where f.due <= clock_timestamp()
$$;

comment on function wxnotify_ready is 'Mini-programs and lanes with something due.';

grant execute on function wxnotify_ready to wxnotify_worker;
