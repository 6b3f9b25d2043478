-- Who did what, the latest first. $1 actor's beginning or null, $2 action or null, $3 before this id or null, $4 most rows
select id, at, actor, action, filter, rows_changed, note
from operator_actions
where ($1::text is null or starts_with(actor, $1)) and ($2::text is null or action = $2) and ($3::bigint is null or id < $3)
order by id desc
limit $4
