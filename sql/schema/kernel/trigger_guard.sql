-- What a producer may give or change is guarded whoever changes it: a worker changes none of these columns, and the verbs that do
-- (arm, reschedule_notifications) want what the guard does. So no parameter of a session gets past it.
create or replace trigger guard before update of id, appid, kind, template_id, page, data, extra, miniprogram_state, lang, send_at, held, expire_at, lane,
    dedup_key, business_ref, created_at on pending_notifications for each row execute function wxnotify_guard();
