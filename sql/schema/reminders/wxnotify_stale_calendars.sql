-- Calendars whose times are to be computed, claimed for five seconds. What no schedule uses any more is forgotten.
create or replace function wxnotify_stale_calendars(p_rows int)
returns table (spec text, cron text, every_days int, anchor timestamp, time_zone text, from_at timestamptz, until_at timestamptz, now_at timestamptz)
language plpgsql volatile set search_path from current set enable_seqscan = off as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock_timestamp();
begin
    delete from reminder_calendars c where c.spec = any (array(
        select x.spec from reminder_calendars x where x.refresh_at <= v_now and x.computed_at is not null
          and not exists (select 1 from reminder_schedules s where s.spec = x.spec)
        order by x.refresh_at limit p_rows for update skip locked));
    return query
        with stale as (
            select x.spec from reminder_calendars x where x.refresh_at <= v_now order by x.refresh_at limit p_rows for update skip locked)
        update reminder_calendars c set refresh_at = v_now + interval '5 seconds' from stale where c.spec = stale.spec
        returning c.spec, c.cron, extract(day from c.every)::int, c.anchor, c.time_zone,
            coalesce(c.wanted_from, v_now - interval '1 minute'), v_now + interval '8 days', v_now;
end $$;

comment on function wxnotify_stale_calendars is 'Calendars whose times are to be computed.';

grant execute on function wxnotify_stale_calendars to wxnotify_worker;
