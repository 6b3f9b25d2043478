-- Rows that have ended, the latest first, from a place on. $1 statuses, $2 appid, $3 template_id, $4 errcode, $5 not before, $6 and $7 the
-- place: finished_at and id, $8 most rows
select f.id, f.appid, f.status, f.template_id, f.business_ref, f.errcode, f.errmsg, f.attempts, f.credit, f.created_at, f.finished_at, null::timestamptz as next_at
from notifications_final f
where f.status = any ($1)
  and ($2::text is null or f.appid = $2)
  and ($3::text is null or f.template_id = $3)
  and ($4::bigint is null or f.errcode = $4)
  and f.finished_at >= $5
  and ($6::timestamptz is null or (f.finished_at, f.id) < ($6, $7))
order by f.finished_at desc, f.id desc
limit $8
