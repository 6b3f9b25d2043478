create or replace trigger free_key after update of send_at, held, template_id, dedup_key on pending_notifications for each row
    when (old.dedup_key is not null) execute function wxnotify_free_key();
