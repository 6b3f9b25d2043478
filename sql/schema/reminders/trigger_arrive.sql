create or replace trigger arrive before insert or update on reminder_schedules for each row execute function wxnotify_arrive_schedule();
