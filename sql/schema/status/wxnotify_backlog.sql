-- Bounded: of each app and lane only the first 10,000 rows in pick order are looked at. Those are the ones that are late.
-- A function, since only a function can say jit = off: the planner's costs are high enough for just-in-time compilation,
-- and compiling took fifty times as long as the query. The SET also keeps it from being inlined into the view, where it
-- would be lost. SECURITY DEFINER, so that who may read the view needs no right to the tables.
create or replace function wxnotify_backlog()
returns table (appid text, app text, lane smallint, status text, rows bigint, oldest_due timestamptz, more boolean)
language sql stable security definer set search_path from current set jit = off rows 20 as $$
    select l.appid, a.name as app, l.lane, s.status, count(*) as rows,
           min(s.due) filter (where s.status in ('due', 'retrying') and s.due <= statement_timestamp()) as oldest_due,
           max(max(s.place)) over (partition by l.appid, l.lane) >= 10000 as more
    from notification_lanes l
    left join wechat_apps a on a.appid = l.appid
    cross join lateral (
        select f.due, f.place,
               case when f.is_sending then 'sending'
                    when f.held then 'held'
                    when f.in_doubt_since is not null then 'in_doubt'
                    when f.is_paused then 'paused'
                    when f.waiting_for = 'retry' then 'retrying'
                    when f.waiting_for is null and f.due > statement_timestamp() or f.waiting_for = 'login' and f.send_at > statement_timestamp() then 'scheduled'
                    else 'due' end as status
        from (select r.*, row_number() over () as place
              from (select * from notifications_pending q where q.appid = l.appid and q.lane = l.lane order by q.due, q.id + 0 limit 10000) r) f
    ) s
    group by l.appid, a.name, l.lane, s.status
$$;

comment on function wxnotify_backlog is 'What the view notification_backlog shows.';

grant execute on function wxnotify_backlog to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
