-- Rows not yet final by app, lane and status. $1 appid or null
select appid, app, lane, status, rows, oldest_due, more from notification_backlog
where $1::text is null or appid = $1
order by appid, lane, status
