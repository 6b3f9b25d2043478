-- Notifications in doubt, oldest first. $1 ids, $2 errcode, $3 template_id, $4 business_ref, $5 appid, $6 most rows
select d.id, d.appid, d.template_id, d.business_ref, d.in_doubt_since, d.on_doubt, d.attempts, d.attempts_max, d.next_at, d.is_sending, d.what_next,
       d.events_since
from notification_doubts d
where ($1::bigint[] is null or d.id = any ($1))
  and ($2::bigint is null or exists (select from notifications_pending p where p.id = d.id and p.errcode = $2))
  and ($3::text is null or d.template_id = $3)
  and ($4::text is null or d.business_ref = $4)
  and ($5::text is null or d.appid = $5)
order by d.in_doubt_since, d.id
limit $6
