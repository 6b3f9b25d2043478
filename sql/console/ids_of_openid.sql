-- $1 openid, $2 most ids
select id, found_by from find_notification_ids_of_openid($1, $2)
