-- Rows that an operator's filter selects; a null leaves a condition out. Rows that no verb may change come last, so that
-- they cannot fill the limit. Without ids only rows not final are looked for, and the status is asked for of no more than
-- the first of each sort: to tell the status of a million rows and sort them would take seconds.
-- $1 ids, $2 errcode, $3 template_id, $4 business_ref, $5 appid, $6 statuses ('in_doubt', or all that are not final), $7 most rows
with chosen as not materialized (
    select p.id, p.in_doubt_since from notifications_pending p
    where $1::bigint[] is null
      and ($2::bigint is null or p.errcode = $2)
      and ($3::text is null or p.template_id = $3)
      and ($4::text is null or p.business_ref = $4)
      and ($5::text is null or p.appid = $5)
), sending as materialized (
    select f.id from notifications_in_flight f
)
select n.id, n.appid, n.status, n.reason, n.next_at, n.template_id, n.business_ref, n.errcode, n.attempts, n.in_doubt_since, n.created_at, n.finished_at
from notifications n
where n.id = any (coalesce($1, array(
        (select c.id from chosen c
         where c.in_doubt_since is null and c.id not in (select s.id from sending s) order by c.id limit $7)
        union all
        (select c.id from chosen c where c.in_doubt_since is not null order by c.id limit $7)
        union all
        (select c.id from chosen c where c.in_doubt_since is null and c.id in (select s.id from sending s) order by c.id limit $7))))
  and ($1::bigint[] is null
       or (($2::bigint is null or n.errcode = $2)
           and ($3::text is null or n.template_id = $3)
           and ($4::text is null or n.business_ref = $4)
           and ($5::text is null or n.appid = $5)))
  and ($6::text[] is null or n.status = any ($6))
order by n.status in ('sending', 'in_doubt'), n.id
limit $7
