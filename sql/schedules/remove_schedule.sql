-- Deletes a schedule as its business would. No row: it is another's.
delete from reminder_schedules s where s.id = $1 returning s.id
