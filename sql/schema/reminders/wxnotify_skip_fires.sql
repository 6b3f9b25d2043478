-- Records times that are not fired, each with its reason; more than 100 with one reason are one row.
create or replace function wxnotify_skip_fires(s reminder_schedules, p_local timestamp[], p_folds smallint[], p_at timestamptz[], p_reasons text[]) returns void
language plpgsql volatile set search_path from current as $$
begin
    if array_remove(p_reasons, null) = '{}' then
        return;
    end if;
    insert into reminder_fires (schedule_id, local_at, fold, fire_at, version, state, reason, until, count)
    select s.id, (array_agg(u.local_at order by u.fire_at))[1], (array_agg(u.fold order by u.fire_at))[1], min(u.fire_at), s.version, 'skipped', u.reason,
           case when count(*) > 1 then (array_agg(u.local_at order by u.fire_at desc))[1] end, count(*)
    from (select w.*, case when count(*) over (partition by w.reason) > 100 then 0 else w.n end as heap
          from unnest(p_local, p_folds, p_at, p_reasons) with ordinality w (local_at, fold, fire_at, reason, n) where w.reason is not null) u
    group by u.reason, u.heap
    on conflict do nothing;
end $$;

comment on function wxnotify_skip_fires is 'Records times of a schedule that are not fired, and why.';

grant execute on function wxnotify_skip_fires to wxnotify_worker;
