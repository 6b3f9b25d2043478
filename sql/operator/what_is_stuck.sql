-- What should have been sent more than five minutes ago and was not, and what does it wait for?
-- 哪些消息已经迟到 5 分钟以上？卡在哪里？
-- Paused rows and doubts that wait for an operator belong to it: nothing happens to them by itself. On a
-- large table say `set jit = off` first: Postgres may compile the query for longer than it runs.
select appid, status, reason, count(*) as rows, min(coalesce(next_at, created_at)) as oldest, min(id) as for_instance
from notifications
where (status in ('due', 'retrying') and next_at < now() - interval '5 minutes')
   or (status = 'paused' and (send_at is null or send_at < now() - interval '5 minutes'))
   or (status = 'in_doubt' and on_doubt = 'hold')
group by appid, status, reason
order by rows desc;
