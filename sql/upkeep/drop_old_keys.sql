-- Forgets dedup keys of rows that retention has dropped, a bounded batch at a time.
delete from notification_keys k
where (k.appid, k.dedup_key) in (
    select o.appid, o.dedup_key from notification_keys o
    where o.claimed_at < now() - make_interval(months => $1) and not exists (select 1 from pending_notifications p where p.id = o.id)
    limit 10000)
