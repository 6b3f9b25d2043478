-- The ids of rows not final that an operator's filter selects; a null leaves a condition out. Rows that no verb may change come last,
-- so that they cannot fill the limit. No status is asked for: of a hundred thousand rows that would take a minute.
-- $1 errcode, $2 template_id, $3 business_ref, $4 appid, $5 only those in doubt, $6 most rows
with chosen as not materialized (
    select p.id, p.in_doubt_since from notifications_pending p
    where ($1::bigint is null or p.errcode = $1)
      and ($2::text is null or p.template_id = $2)
      and ($3::text is null or p.business_ref = $3)
      and ($4::text is null or p.appid = $4)
      and (not $5::boolean or p.in_doubt_since is not null)
), sending as materialized (
    select f.id from notifications_in_flight f
)
select f.id
from ((select 0 as turn, c.id from chosen c where c.in_doubt_since is null and c.id not in (select s.id from sending s) order by c.id limit $6)
      union all
      (select 1, c.id from chosen c where c.in_doubt_since is not null and (not $5 or c.id not in (select s.id from sending s)) order by c.id limit $6)
      union all
      (select 2, c.id from chosen c where c.in_doubt_since is null and c.id in (select s.id from sending s) order by c.id limit $6)) f
order by f.turn, f.id
limit $6
