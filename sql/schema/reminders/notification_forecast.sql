-- What is planned for the next seven days by hour and template, and whom a credit will lack: the rows that are there, and the times of active schedules
-- with their audience of today, as far as these are computed. A user's held credits go to that user's reminders in the order of their times.
-- Reads all schedules and audiences of the mini-program: give it a statement_timeout.
create or replace function notification_forecast(p_appid text)
returns table (hour timestamptz, template_id text, rows_due bigint, fires bigint, receivers bigint, lacking bigint, credits_held bigint)
language plpgsql stable security definer set search_path from current as $$
#variable_conflict use_column
declare
    v_quiet boolean := exists (select 1 from notification_quiet_hours q where q.appid = p_appid);
begin
    return query
        with planned as materialized (
            select s.id, s.template_id, s.credit, s.audience, s.openid, case when v_quiet then coalesce(wxnotify_schedule_quiet_end(s, u.fire_at), u.fire_at) else u.fire_at end as fire_at
            from reminder_schedules s
            join reminder_calendars c on c.spec = s.spec
            join reminder_clock k on k.schedule_id = s.id and not k.is_over
            cross join lateral unnest(c.local_ats, c.folds, c.fire_ats) u (local_at, fold, fire_at)
            where s.appid = p_appid and s.paused_at is null and u.fire_at > greatest(k.place, now()) and u.fire_at < now() + interval '7 days'
              and (s.starts_at is null or u.local_at >= s.starts_at) and (s.ends_at is null or u.local_at < s.ends_at)
              and wxnotify_fires_on(s.only_on, s.calendar, u.local_at::date)
              and not (v_quiet and s.quiet = 'drop' and wxnotify_schedule_quiet_end(s, u.fire_at) is not null)
              and not exists (select 1 from reminder_fires f where f.schedule_id = s.id and f.local_at = u.local_at and f.fold = u.fold)),
        credits as materialized (
            select p.template_id, p.openid, count(*) as held from pending_notifications p where p.appid = p_appid and p.held group by 1, 2),
        totals as (select c.template_id, sum(c.held)::bigint as held from credits c group by 1),
        wanted as (
            select n.fire_at, n.template_id, n.credit, r.openid, n.id, false as is_made
            from planned n
            cross join lateral (
                select n.openid where n.audience = 'one'
                union all select a.openid from reminder_audience a where n.audience = 'list' and a.schedule_id = n.id
                union all select c.openid from credits c where n.audience = 'holders' and c.template_id = n.template_id) r (openid)
            union all
            -- Rows that fires have made and that wait for their turn: they take their credits before.
            select p.due, p.template_id, s.credit, p.openid, s.id, true
            from pending_notifications p join reminder_schedules s on s.id = p.schedule_id
            where p.appid = p_appid and not p.held and p.in_doubt_since is null and p.due < now() + interval '7 days'),
        needs as (
            select w.*, row_number() over (partition by w.template_id, w.openid, w.credit order by not w.is_made, w.fire_at, w.id) as turn from wanted w),
        told as (
            select date_trunc('hour', greatest(n.fire_at, now())) as hour, n.template_id, count(*) filter (where not n.is_made) as receivers,
                   count(*) filter (where n.credit = 'held' and n.turn > coalesce(c.held, 0)) as lacking
            from needs n left join credits c on c.template_id = n.template_id and c.openid = n.openid group by 1, 2),
        fired as (select date_trunc('hour', n.fire_at) as hour, n.template_id, count(*) as fires from planned n group by 1, 2),
        due as (
            select date_trunc('hour', greatest(p.due, now())) as hour, p.template_id, count(*) as rows_due from pending_notifications p
            where p.appid = p_appid and not p.held and p.due < now() + interval '7 days' group by 1, 2)
        select x.hour, x.template_id, coalesce(d.rows_due, 0), coalesce(f.fires, 0), coalesce(t.receivers, 0), coalesce(t.lacking, 0),
               coalesce(h.held, 0)
        from (select d.hour, d.template_id from due d union select f.hour, f.template_id from fired f) x
        left join due d on d.hour = x.hour and d.template_id = x.template_id
        left join fired f on f.hour = x.hour and f.template_id = x.template_id
        left join told t on t.hour = x.hour and t.template_id = x.template_id
        left join totals h on h.template_id = x.template_id
        order by 1, 2;
end $$;

comment on function notification_forecast is 'What is planned for the next seven days, by hour and template: rows that are there, fires of reminders (as far as their times are computed) and their receivers of today, how many of these will lack a credit, and the credits held now.';

grant execute on function notification_forecast to wxnotify_operator;
grant execute on function notification_forecast to wxnotify_viewer;
