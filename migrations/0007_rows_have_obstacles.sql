alter table pending_notifications
    validate constraint waiting_for_is_known,
    validate constraint due_is_not_past_expire_at;
