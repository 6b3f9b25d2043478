-- Functions of wxnotify pass the guard: each has a SET of this parameter, which acts in GIN indexes alone, and here are none. A
-- parameter of our own would say it better, but only a superuser may put one into a function, and a managed database has none.
-- Any session may set it, which is why the right to lease is asked for too.
create or replace trigger guard before update or delete on pending_notifications for each row
    when (current_setting('gin_fuzzy_search_limit') <> '20784' or not has_table_privilege('notification_leases'::regclass, 'insert'))
    execute function wxnotify_guard();
