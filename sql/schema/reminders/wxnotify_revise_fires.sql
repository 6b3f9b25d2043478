-- Part of wxnotify_apply_change, when no row of an older version is left: fires that were made before an edit of who, which template or when.
-- One that lies ahead and of which nothing was sent, tried or kept is forgotten, and its time is free for the new version; of any
-- other it stays said that it was cancelled. True: all of them were seen to.
create or replace function wxnotify_revise_fires(s reminder_schedules) returns boolean
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
declare
    f        reminder_fires;
    v_ended  bigint;
    v_undone bigint;
    v_now    timestamptz := clock_timestamp();
begin
    for f in
        select r.* from reminder_fires r
        where r.schedule_id = s.id and r.version < s.recast_version and (r.state = 'open' or r.state = 'done' and r.fire_at > v_now - interval '1 day')
        order by r.local_at, r.fold limit 100 for update skip locked
    loop
        select coalesce(sum(r.count), 0), coalesce(sum(r.count) filter (where r.result = 'withdrawn'), 0) into v_ended, v_undone
        from reminder_results r where r.schedule_id = f.schedule_id and r.local_at = f.local_at and r.fold = f.fold;
        if f.fire_at > v_now and v_undone = f.made and v_ended = f.made then
            delete from reminder_results r where r.schedule_id = f.schedule_id and r.local_at = f.local_at and r.fold = f.fold;
            delete from reminder_fires r where r.schedule_id = f.schedule_id and r.local_at = f.local_at and r.fold = f.fold;
            update reminder_clock k
            set fires_made = greatest(k.fires_made - 1, 0), place = least(k.place, f.fire_at - interval '1 microsecond'),
                next_fire_at = case when s.paused_at is null then least(k.next_fire_at, v_now) else k.next_fire_at end
            where k.schedule_id = s.id;
        elsif v_undone > 0 or f.state = 'open' then
            perform wxnotify_end_fire(f, 'cancelled', case f.made when 0 then 'edited before it was made' else 'edited while sending' end);
        else
            update reminder_fires r set version = s.version where r.schedule_id = f.schedule_id and r.local_at = f.local_at and r.fold = f.fold;
        end if;
    end loop;
    return not exists (select 1 from reminder_fires r where r.schedule_id = s.id and r.version < s.recast_version
                       and (r.state = 'open' or r.state = 'done' and r.fire_at > v_now - interval '1 day'));
end $$;

comment on function wxnotify_revise_fires is 'Part of wxnotify_apply_change: what becomes of fires made before an edit.';

grant execute on function wxnotify_revise_fires to wxnotify_worker;
