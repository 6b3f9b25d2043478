-- Keeps a producer's UPDATE and DELETE away from rows in flight or in doubt (they report 0 rows), turns a DELETE into a
-- cancel, and gives a rescheduled row its new due time. The row is locked before a BEFORE trigger runs, and the look at
-- the leases is a later statement with a newer snapshot: a lease either sees our lock or is seen here. Above READ
-- COMMITTED that snapshot would be old; only held rows, which are never leased, may be changed there.
create or replace function wxnotify_guard() returns trigger
language plpgsql security definer set search_path from current set enable_seqscan = off as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' and not (tg_op = 'UPDATE' and old.held) then
        raise exception 'pending_notifications: rows can be changed in READ COMMITTED only, not in %', upper(current_setting('transaction_isolation'))
            using hint = 'Use a transaction of its own: BEGIN ISOLATION LEVEL READ COMMITTED.';
    end if;
    if old.in_doubt_since is not null
       -- A row that its lease has settled already is not in flight, though the lease may still hold others.
       or exists (select 1 from notification_leases l
                  where l.appid = old.appid and old.id = any (l.ids) and l.lease_id is distinct from old.last_lease) then
        return null;
    end if;
    if tg_op = 'DELETE' then
        perform wxnotify_need_partitions();
        insert into notification_history (id, appid, status, kind, openid, template_id, page, data, extra, miniprogram_state, lang, send_at,
            held, expire_at, lane, dedup_key, business_ref, on_doubt, attempts_max, created_at, producer, attempts, errcode, errmsg,
            settled_by, last_attempt_at, finished_at, schedule_id, local_at, fold)
        values (old.id, old.appid, 'cancelled', old.kind, old.openid, old.template_id, old.page, old.data, old.extra, old.miniprogram_state, old.lang, old.send_at,
            old.held, old.expire_at, old.lane, old.dedup_key, old.business_ref, old.on_doubt, old.attempts_max, old.created_at, old.producer, old.attempts,
            old.last_errcode, old.last_errmsg, 'producer', old.last_attempt_at, clock_timestamp(), old.schedule_id, old.local_at, old.fold);
        if old.schedule_id is not null then
            perform wxnotify_end_reminders(array[old.id]);
        end if;
    else
        if new.id <> old.id or new.appid is distinct from old.appid then
            raise exception 'pending_notifications: id and appid of notification % cannot change', old.id
                using hint = 'DELETE the row and INSERT another.';
        end if;
        if new.login_code is distinct from old.login_code or (old.login_code is not null and new.openid is distinct from old.openid) then
            raise exception 'pending_notifications: login_code of notification % cannot change', old.id
                using hint = 'It may be on its way to WeChat. DELETE the row and INSERT another.';
        end if;
        new.due := old.due;
        new.waiting_for := old.waiting_for;
        new.attempts := old.attempts;
        new.rescues := old.rescues;
        new.in_doubt_since := old.in_doubt_since;
        new.last_lease := old.last_lease;
        new.last_errcode := old.last_errcode;
        new.last_errmsg := old.last_errmsg;
        new.last_attempt_at := old.last_attempt_at;
        new.check_at := old.check_at;
        new.checked_at := old.checked_at;
        -- Whose row it is follows the words: who arms a credit has its status, and may still change it.
        new.producer := case when old.held and not new.held then session_user else old.producer end;
        new.login_at := old.login_at;
        new.login_until := old.login_until;
        new.login_claims := old.login_claims;
        new.login_unclear := old.login_unclear;
        if (new.send_at, new.held, new.openid, new.template_id, new.dedup_key)
           is distinct from (old.send_at, old.held, old.openid, old.template_id, old.dedup_key) then
            new.due := wxnotify_next_due(new.held or new.openid is null, new.send_at, new.expire_at);
            new.waiting_for := case when new.openid is null then 'login' end;
        elsif new.expire_at is distinct from old.expire_at then
            new.due := least(case when old.due = old.expire_at then wxnotify_next_due(new.held or new.openid is null, new.send_at, null) else old.due end, new.expire_at);
        end if;
    end if;
    return case tg_op when 'DELETE' then old else new end;
end $$;

comment on function wxnotify_guard is 'Trigger: rows in flight or in doubt are out of reach; DELETE is a cancel; a reschedule sets due anew.';

grant execute on function wxnotify_guard to wxnotify_worker;
