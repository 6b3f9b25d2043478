create or replace trigger refuse_truncate before truncate on pending_notifications for each statement execute function wxnotify_refuse_truncate();
