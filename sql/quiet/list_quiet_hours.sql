-- Quiet hours by mini-program, its own before those of its templates, with the rows that wait for their end.
select q.appid, nullif(q.template_id, '') as template_id, to_char(q.begins, 'HH24:MI') as begins, to_char(q.ends, 'HH24:MI') as ends, q.time_zone, q.set_by, q.set_at,
       (select count(*) from notifications_pending p
        where p.waiting_for = 'quiet' and p.appid = q.appid and (q.template_id = p.template_id or q.template_id = '' and not exists (
            select 1 from notification_quiet_hours o where o.appid = q.appid and o.template_id = p.template_id))) as waiting
from notification_quiet_hours q
where $1::text is null or q.appid = $1
order by q.appid, q.template_id
