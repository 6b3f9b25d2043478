-- Where the books of one user do not balance. $1 appid, $2 openid
select template_id, fault, notification_id from notification_credit_faults where appid = $1 and openid = $2 order by 1, 2, 3
