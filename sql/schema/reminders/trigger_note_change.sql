create or replace trigger note_change after insert or update or delete on reminder_schedules for each row execute function wxnotify_note_change();
