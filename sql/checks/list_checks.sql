-- Checks, how they do, why one cannot be asked, and the rows that wait for each.
select c.name, c.function_name, c.on_error, c.asked, c.errors, c.asked_at, c.failing_since, coalesce(wxnotify_check_fault(c.function_name), c.problem) as problem,
       (select count(*) from notifications_pending p join reminders r on r.id = p.schedule_id
        where p.waiting_for = 'check' and r.still_true = c.name) as waiting
from reminder_checks c
order by c.name
