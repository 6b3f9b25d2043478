-- By the times that a worker computed for the next days, and the fires that have a row.
create or replace function reminder_next(p_id bigint, p_count int default 10)
returns table (local_at timestamp, fold smallint, fire_at timestamptz, skipped text)
language plpgsql stable security definer set search_path from current as $$
#variable_conflict use_column
begin
    perform wxnotify_need_schedule(p_id);
    return query
        select u.local_at, u.fold, u.fire_at,
               case when s.paused_at is not null then 'paused' when k.is_over then 'over'
                    when not wxnotify_fires_on(s.only_on, s.calendar, u.local_at::date) then case s.only_on when 'workday' then 'no workday' else 'no holiday' end
                    when f.state = 'skipped' then f.reason
                    when s.quiet = 'drop' and wxnotify_schedule_quiet_end(s, u.fire_at) is not null then 'quiet hours' end
        from reminder_schedules s
        join reminder_calendars c on c.spec = s.spec
        left join reminder_clock k on k.schedule_id = s.id
        cross join lateral unnest(c.local_ats, c.folds, c.fire_ats) u (local_at, fold, fire_at)
        left join reminder_fires f on f.schedule_id = s.id and f.local_at = u.local_at and f.fold = u.fold
        where s.id = p_id and u.fire_at > clock_timestamp() and (s.starts_at is null or u.local_at >= s.starts_at) and (s.ends_at is null or u.local_at < s.ends_at)
          and (f.state is null or f.state = 'skipped')
        order by u.fire_at limit p_count;
end $$;

comment on function reminder_next is 'The next times of a reminder, as far as they are computed (8 days, at most 64): wall time, fold and instant, and why one will be skipped.';

grant execute on function reminder_next to wxnotify_operator;
grant execute on function reminder_next to wxnotify_producer;
