-- AFTER: by then the inserting transaction has an id, so a worker that arms the bell and then waits for older transactions cannot miss it.
create or replace trigger bell after insert or update of send_at, held, expire_at on pending_notifications for each statement execute function wxnotify_bell();
