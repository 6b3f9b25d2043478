-- Final rows that an operator's filter selects for a redrive, without those redriven before, so that repeating the same
-- command reaches the next ones.
-- $1 ids, $2 errcode, $3 template_id, $4 business_ref, $5 appid, $6 statuses, $7 most rows
select n.id, n.appid, n.status, n.reason, n.reason_code, n.next_at, n.template_id, n.business_ref, n.errcode, n.attempts, n.in_doubt_since, n.created_at, n.finished_at
from notifications n
where ($1::bigint[] is null or n.id = any ($1))
  and ($2::bigint is null or n.errcode = $2)
  and ($3::text is null or n.template_id = $3)
  and ($4::text is null or n.business_ref = $4)
  and ($5::text is null or n.appid = $5)
  and n.status = any ($6)
  and ($1::bigint[] is not null or not exists (select from notification_redrives r where r.redriven_id = n.id))
order by n.id
limit $7
