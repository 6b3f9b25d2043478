-- What the gauges show, at a bounded cost: at most 10,000 rows are counted in each lane, and of doubts.
select (select coalesce(sum(counted.n), 0)::bigint
        from wxnotify_ready() r
        cross join lateral (select count(*) as n from (
            select 1 from pending_notifications p
            where p.appid = r.appid and p.lane = r.lane and p.due <= statement_timestamp() order by p.due limit 10000) d) counted),
       (select count(*) from (select 1 from pending_notifications where in_doubt_since is not null limit 10000) d),
       (select count(*) from wechat_apps where paused_until > statement_timestamp()),
       (select coalesce(max(extract(epoch from statement_timestamp() - f.due)), 0)::float8 from wxnotify_ready() f),
       statement_timestamp()
