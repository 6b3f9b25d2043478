-- Rows that an operator's filter selects by their ids; a null leaves a condition out. Rows that no verb may change come last.
-- $1 ids, $2 errcode, $3 template_id, $4 business_ref, $5 appid, $6 statuses, $7 most rows
select n.id, n.appid, n.status, n.reason, n.reason_code, n.next_at, n.template_id, n.business_ref, n.errcode, n.attempts, n.in_doubt_since, n.created_at, n.finished_at
from notifications n
where n.id = any ($1::bigint[])
  and ($2::bigint is null or n.errcode = $2)
  and ($3::text is null or n.template_id = $3)
  and ($4::text is null or n.business_ref = $4)
  and ($5::text is null or n.appid = $5)
  and ($6::text[] is null or n.status = any ($6))
order by n.status in ('sending', 'in_doubt'), n.id
limit $7
