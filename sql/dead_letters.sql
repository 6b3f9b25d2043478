-- The latest dead letters. $1 ids, $2 errcode, $3 template_id, $4 business_ref, $5 appid, $6 most rows
select id, appid, status, errcode, meaning, meaning_zh, credit, attempts, template_id, business_ref, finished_at, redriven_as
from notification_dead_letters
where ($1::bigint[] is null or id = any ($1))
  and ($2::bigint is null or errcode = $2)
  and ($3::text is null or template_id = $3)
  and ($4::text is null or business_ref = $4)
  and ($5::text is null or appid = $5)
order by finished_at desc
limit $6
