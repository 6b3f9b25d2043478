-- The latest dead letters: a branch for each status, so that the index on status and finished_at gives the latest of
-- each. $1 ids, $2 errcode, $3 template_id, $4 business_ref, $5 appid, $6 most rows
select d.id, d.appid, d.status, d.errcode, d.meaning, d.meaning_zh, d.credit, d.attempts, d.template_id, d.business_ref, d.finished_at, d.redriven_as
from (
    (select * from notification_dead_letters
     where status = 'dead'
       and ($1::bigint[] is null or id = any ($1))
       and ($2::bigint is null or errcode = $2)
       and ($3::text is null or template_id = $3)
       and ($4::text is null or business_ref = $4)
       and ($5::text is null or appid = $5)
     order by finished_at desc limit $6)
    union all
    (select * from notification_dead_letters
     where status = 'unresolved'
       and ($1::bigint[] is null or id = any ($1))
       and ($2::bigint is null or errcode = $2)
       and ($3::text is null or template_id = $3)
       and ($4::text is null or business_ref = $4)
       and ($5::text is null or appid = $5)
     order by finished_at desc limit $6)
) d
order by d.finished_at desc
limit $6
