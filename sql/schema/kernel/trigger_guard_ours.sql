-- The other columns, and DELETE, are guarded but for functions of wxnotify: each of these has a SET of this parameter, which acts in GIN
-- indexes alone, and here are none. A parameter of our own would say it better, but only a superuser may put one into a function, and
-- a managed database has none. Any session may set it, which is why the right to lease is asked for too.
create or replace trigger guard_ours before update of openid, login_code, on_doubt, attempts_max, due, waiting_for, attempts, rescues, in_doubt_since, last_lease,
    last_errcode, last_errmsg, last_attempt_at, producer, login_at, login_until, login_claims, login_unclear,
    schedule_id, local_at, fold, schedule_version or delete on pending_notifications for each row
    when (current_setting('gin_fuzzy_search_limit') <> '20784' or not has_table_privilege('notification_leases'::regclass, 'insert'))
    execute function wxnotify_guard();
