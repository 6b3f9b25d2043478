-- The rows of these ids, the latest first. $1 ids, $2 most rows
select n.id, n.appid, n.status, n.template_id, n.business_ref, n.errcode, case when n.finished_at is null then n.reason else n.errmsg end as errmsg, n.attempts,
       n.credit, n.created_at, n.finished_at, n.next_at
from notifications n
where n.id = any ($1::bigint[])
order by n.created_at desc, n.id desc
limit $2
