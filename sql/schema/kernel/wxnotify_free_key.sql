-- A row that was cancelled or rescheduled gives up its dedup key, and those who waited for it may go. AFTER the row: a
-- BEFORE trigger that updates another row of the same statement would make the statement fail.
create or replace function wxnotify_free_key() returns trigger
language plpgsql security definer set search_path from current set enable_seqscan = off as $$
begin
    if tg_op = 'DELETE' or (new.send_at, new.held, new.openid, new.template_id, new.dedup_key)
           is distinct from (old.send_at, old.held, old.openid, old.template_id, old.dedup_key) then
        delete from notification_keys k where k.appid = old.appid and k.dedup_key = old.dedup_key and k.id = old.id;
        if found then
            perform wxnotify_wake_duplicates(old.appid, array[old.dedup_key]);
        end if;
    end if;
    return null;
end $$;

comment on function wxnotify_free_key is 'Trigger: a cancelled or rescheduled row gives up its dedup key.';

grant execute on function wxnotify_free_key to wxnotify_worker;
