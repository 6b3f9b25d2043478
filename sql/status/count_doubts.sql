-- How many notifications are in doubt. $1 appid or null
select count(*) from notification_doubts where $1::text is null or appid = $1
