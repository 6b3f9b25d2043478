-- Rows that have not ended, the next first. $1 statuses, $2 appid, $3 template_id, $4 errcode, $5 most rows
select n.id, n.appid, n.status, n.template_id, n.business_ref, n.errcode, n.reason as errmsg, n.attempts, n.credit, n.created_at, n.finished_at, n.next_at
from notifications n
where n.status = any ($1)
  and ($2::text is null or n.appid = $2)
  and ($3::text is null or n.template_id = $3)
  and ($4::bigint is null or n.errcode = $4)
order by n.next_at nulls last, n.id
limit $5
