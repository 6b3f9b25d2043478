-- The workers, `wxnotify run`: the only ones to read access tokens. Each table by what they do with it; they add to the
-- history and the attempts and take nothing away, and of the operators' tables they write none.
grant select, insert, update, delete
    on pending_notifications, notification_leases, notification_keys, notification_workers, wechat_access_tokens, wechat_events,
       wechat_lookups, wechat_rates, wechat_refusals, wechat_templates
    to wxnotify_worker;
grant select, insert, update on notification_history to wxnotify_worker;
grant select, insert on notification_attempts to wxnotify_worker;
grant select, insert, delete on notification_unconfirmed_ids to wxnotify_worker;
grant select, insert, update on notification_books to wxnotify_worker;
grant select, update on wechat_apps to wxnotify_worker;
grant select on wechat_errcodes, notification_redrives, wxnotify_schema to wxnotify_worker;
grant select, update on sequence notification_bell to wxnotify_worker;

-- People who look at every notification, by the views, and change rows by the verbs alone, which leave their trace in operator_actions.
grant select on wechat_apps, wechat_lookups, wechat_templates, notification_redrives, operator_actions, wxnotify_schema to wxnotify_operator;
grant select, insert, update, delete on wechat_errcodes to wxnotify_operator;

-- Dashboards, which see no receiver and no message: the views grant their other columns, each in its own file.
grant select on wechat_errcodes, wechat_apps to wxnotify_viewer;
grant select (appid, lookup, errcode, error, due_at) on wechat_lookups to wxnotify_viewer;

-- Business systems, which insert notifications and change or cancel their own. INSERT is granted on the columns of the contract alone: who may
-- not name id, attempts or producer cannot take another's place. The table-wide right that went before is taken back.
revoke insert, update on pending_notifications from wxnotify_producer;
grant select, delete on pending_notifications to wxnotify_producer;
grant insert (appid, kind, openid, login_code, template_id, page, data, extra, miniprogram_state, lang, send_at, held, expire_at, lane, dedup_key,
              business_ref, on_doubt, attempts_max, created_at)
    on pending_notifications to wxnotify_producer;
grant update (send_at, expire_at, data, page, held) on pending_notifications to wxnotify_producer;
