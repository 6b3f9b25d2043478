-- How long messages of the last hour took, in seconds; WeChat tells whole seconds, so a receipt may seem to come before its send; at most 50,000 of them are looked at. $1 appid or null
select percentile_cont(array[0.5, 0.95, 0.99]) within group (order by greatest(0, extract(epoch from s.sent_at - s.due_at))) filter (where s.status = 'sent') as sent,
       percentile_cont(array[0.5, 0.95, 0.99]) within group (order by greatest(0, extract(epoch from s.receipt_at - s.sent_at))) filter (where s.receipt_at is not null) as confirmed,
       count(*) filter (where s.status = 'sent' and s.receipt_at is null and s.sent_at < now() - interval '10 minutes') as unconfirmed,
       count(*) filter (where s.status = 'expired') as expired
from (
    select f.status, greatest(f.created_at, f.send_at) as due_at, f.finished_at as sent_at, f.receipt_at
    from notifications_final f
    where f.finished_at > now() - interval '1 hour' and ($1::text is null or f.appid = $1)
    limit 50000) s
