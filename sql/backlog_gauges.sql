-- What the gauges show, at a bounded cost: at most 10,000 rows are counted of each kind.
select (select count(*) from (select 1 from pending_notifications where due <= clock_timestamp() limit 10000) d),
       (select count(*) from (select 1 from pending_notifications where in_doubt_since is not null limit 10000) d),
       (select count(*) from wechat_apps where paused_until > clock_timestamp()),
       (select coalesce(max(extract(epoch from clock_timestamp() - f.due)), 0)::float8 from wxnotify_ready() f)
