-- Rows that an operator's filter selects; a null leaves a condition out. Rows that no verb may change come last, so that
-- they cannot fill the limit.
-- $1 ids, $2 errcode, $3 template_id, $4 business_ref, $5 appid, $6 statuses, $7 most rows
select id, appid, status, reason, next_at, template_id, business_ref, errcode, attempts, in_doubt_since, created_at, finished_at
from notifications
where ($1::bigint[] is null or id = any ($1))
  and ($2::bigint is null or errcode = $2)
  and ($3::text is null or template_id = $3)
  and ($4::text is null or business_ref = $4)
  and ($5::text is null or appid = $5)
  and ($6::text[] is null or status = any ($6))
order by status in ('sending', 'in_doubt'), id
limit $7
