-- Fires after `arrive`, by its name.
create or replace trigger arrive_kind before insert or update of kind, openid, login_code, template_id, data, extra, held on pending_notifications for each row
    when (new.kind in ('device', 'service_card') or num_nonnulls(new.login_code, new.login_at, new.login_until) > 0
          or new.login_claims is distinct from 0 or new.login_unclear is distinct from 0)
    execute function wxnotify_arrive_kind();
