-- The books of one user. $1 appid, $2 openid
select template_id, balance::int8 as balance, accepted::int8 as accepted, unclaimed, held, pending, in_doubt, sent, unresolved, dead_gone, dead_kept,
       dead_unknown, unused, sent_elsewhere, refused_at, last_accepted_at
from notification_credits
where appid = $1 and openid = $2
order by template_id
