-- How many rows wait, and since when, by mini-program, template and lane?
-- 各小程序、模板、通道积压了多少？最久的等了多久？
-- Paused rows count: a paused mini-program is not healthy. Of each lane the first 10,000 rows are looked at; then more is true. Lane 0 is
-- urgent, 1 normal, 2 bulk.

set jit = off;
select appid, lane, template_id, count(*) as rows, count(*) filter (where is_paused) as paused, count(*) filter (where in_doubt_since is not null) as in_doubt,
       min(since) as oldest, date_trunc('second', now() - min(since)) as waits_for, max(max(place)) over (partition by appid, lane) >= 10000 as more
from (
    select l.appid, l.lane, r.template_id, r.is_paused, r.in_doubt_since, greatest(r.created_at, r.send_at) as since, row_number() over (partition by l.appid, l.lane) as place, r.held
    from notification_lanes l
    cross join lateral (select * from notifications_pending q where q.appid = l.appid and q.lane = l.lane order by q.due, q.id + 0 limit 10000) r) f
where not held and since <= now()
group by appid, lane, template_id
order by oldest;
