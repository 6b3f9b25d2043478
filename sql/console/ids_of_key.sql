-- $1 the key, $2 most ids
select id, found_by from find_notification_ids($1, $2)
