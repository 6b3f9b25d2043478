-- An edit writes its own row and one row here: workers see to the rest, so an editor waits for nobody and conflicts with nobody.
create or replace function wxnotify_note_change() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    if tg_op = 'UPDATE' then
        if (new.version, new.paused_at) is not distinct from (old.version, old.paused_at) then
            return null;
        end if;
    elsif tg_op = 'DELETE' then
        insert into reminder_schedules_deleted (schedule_id, appid, name, producer) values (old.id, old.appid, old.name, old.producer)
        on conflict do nothing;
    end if;
    insert into reminder_changes (schedule_id) values (case tg_op when 'DELETE' then old.id else new.id end);
    perform wxnotify_ring();
    return null;
end $$;

comment on function wxnotify_note_change is 'Trigger: tells workers of a schedule that was inserted, edited or deleted.';

grant execute on function wxnotify_note_change to wxnotify_worker;
