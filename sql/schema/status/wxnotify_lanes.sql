-- A loose index scan: one probe a lane, however many rows each has. A function for the sake of its ROWS: the planner takes
-- a recursion for a hundred lanes, and what it then thinks the views cost sets off just-in-time compilation, which takes
-- longer than they do. SECURITY DEFINER, so that who may read the views needs no right to the tables.
create or replace function wxnotify_lanes() returns table (appid text, lane smallint, front timestamptz, app_is_paused boolean)
language sql stable security definer rows 2 set search_path from current set enable_seqscan = off set enable_bitmapscan = off
    set enable_sort = off set jit = off as $$
    with recursive lanes as (
        (select p.appid, p.lane, p.due from pending_notifications p order by p.appid, p.lane, p.due limit 1)
        union all
        select n.appid, n.lane, n.due
        from lanes l
        cross join lateral (select p.appid, p.lane, p.due from pending_notifications p where (p.appid, p.lane) > (l.appid, l.lane)
                            order by p.appid, p.lane, p.due limit 1) n
    )
    select l.appid, l.lane, l.due,
           not exists (select from wechat_apps a
                       where a.appid = l.appid and (a.paused_until is null or a.paused_until <= statement_timestamp()))
    from lanes l
$$;

comment on function wxnotify_lanes is 'What the view notification_lanes shows.';

grant execute on function wxnotify_lanes to wxnotify_operator, wxnotify_viewer, wxnotify_producer, wxnotify_worker;
