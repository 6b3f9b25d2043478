create or replace trigger arrive before insert or update of appid, kind, openid, login_code, template_id, page, data, extra, miniprogram_state, lang, send_at, held, expire_at, lane,
    dedup_key, business_ref, on_doubt, attempts_max, created_at on pending_notifications for each row execute function wxnotify_arrive();
