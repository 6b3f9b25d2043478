-- Will the rows of the next hours find credits, quota and time?
-- 接下来几小时要发的消息，订阅次数、配额、时间够吗？
-- hours is how far to look. without_credit and refused will not be delivered as things are; secs_at_rate is how long the rate makes them take; quota_remaining
-- is WeChat's count of today. Of each lane the first 10,000 rows are looked at.
\if :{?hours}
\else
\set hours '24'
\endif

set jit = off;
with coming as (
    select r.appid, r.openid, r.template_id, r.kind, r.is_refused
    from notification_lanes l
    cross join lateral (select * from notifications_pending q where q.appid = l.appid and q.lane = l.lane order by q.due, q.id + 0 limit 10000) r
    where not r.held and r.in_doubt_since is null and coalesce(r.send_at, r.created_at) <= now() + make_interval(hours => :hours)),
pairs as (
    select c.appid, c.template_id, c.openid, count(*) as rows, count(*) filter (where c.is_refused) as refused,
           count(*) filter (where c.kind = 'one_time') as wanted
    from coming c group by 1, 2, 3)
select p.appid, p.template_id, sum(p.rows) as rows, sum(p.refused) as refused, sum(greatest(p.wanted - coalesce(b.balance, 0), 0)) as without_credit,
       a.quota_remaining, sum(p.rows) > a.quota_remaining as beyond_quota,
       round((sum(p.rows) / (coalesce(a.rate_per_second, a.quota_rate_per_second) * a.rate_factor))::numeric) as secs_at_rate
from pairs p
left join wechat_apps a on a.appid = p.appid
left join lateral (select c.balance from notification_credits c
                   where c.appid = p.appid and c.openid = p.openid and c.template_id = p.template_id and p.wanted > 0) b on true
group by p.appid, p.template_id, a.appid
order by without_credit desc, rows desc, p.appid, p.template_id;
