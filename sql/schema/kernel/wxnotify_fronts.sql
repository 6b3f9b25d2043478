-- The first due time of every lane, by a loose index scan: one probe a lane however many rows it has. Its plan is kept by plpgsql;
-- in SQL it was made anew at each call, which cost six times what the probes do.
create or replace function wxnotify_fronts() returns table (appid text, lane smallint, due timestamptz)
language plpgsql stable set search_path from current set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
#variable_conflict use_column
begin
    return query
    with recursive front as (
        (select p.appid, p.lane, p.due from pending_notifications p order by p.appid, p.lane, p.due limit 1)
        union all
        select n.* from front cross join lateral (
            select p.appid, p.lane, p.due from pending_notifications p where (p.appid, p.lane) > (front.appid, front.lane)
            order by p.appid, p.lane, p.due limit 1) n)
    select * from front;
end $$;

comment on function wxnotify_fronts is 'The first due time of every mini-program and lane.';

grant execute on function wxnotify_fronts to wxnotify_worker;
