-- A prepared transaction or a session without an app concerns every mini-program.
select holds, appid, pid, prepared, username, application, since, waiting, end_with, holds_code from notification_blockers
where $1::text is null or appid = $1 or appid is null
order by since nulls last, holds, pid
