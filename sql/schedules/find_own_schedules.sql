-- Schedules of this login by id or name, for what only their business may do.
select s.id, s.appid, s.name, s.producer::text from reminder_schedules s
where (s.name = $1 or s.id::text = $1) and ($2::text is null or s.appid = $2)
order by s.name <> $1, s.id
limit 10
