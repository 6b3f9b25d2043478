-- Fires after `arrive`, by its name, but for messages that have nothing beside their data.
create or replace trigger arrive_kind before insert or update of kind, openid, login_code, template_id, data, extra, held on pending_notifications for each row
    when (new.kind not in ('one_time', 'long_term') or num_nonnulls(new.login_code, new.login_at, new.login_until) > 0
          or new.login_claims is distinct from 0 or new.login_unclear is distinct from 0)
    execute function wxnotify_arrive_kind();
