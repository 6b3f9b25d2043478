-- What the gauges of reminders show, of the last hour where they tell of what ended; counts of what waits stop at 10,000.
select (select count(*) from (select 1 from reminder_fires f where f.state = 'open' limit 10000) o) as open_fires,
       (select coalesce(sum(k.count), 0) from (
            select f.count from reminder_fires f where f.state = 'skipped' and f.fire_at > statement_timestamp() - interval '1 hour' limit 10000) k)::bigint as skipped,
       (select coalesce(max(extract(epoch from statement_timestamp() - n.next_fire_at)), 0)::float8 from (
            select k.next_fire_at from reminder_clock k order by k.next_fire_at limit 1) n where n.next_fire_at < statement_timestamp()) as lag_secs,
       (select count(*) from (select 1 from pending_notifications p where p.waiting_for = 'quiet' limit 10000) w) as waiting_quiet,
       (select count(*) from (select 1 from pending_notifications p where p.waiting_for = 'check' limit 10000) w) as waiting_check,
       array(select e.result from (select r.result, sum(r.count) as n from reminder_results r where r.at > statement_timestamp() - interval '1 hour' group by 1) e order by 1) as results,
       array(select e.n from (select r.result, sum(r.count)::bigint as n from reminder_results r where r.at > statement_timestamp() - interval '1 hour' group by 1) e order by e.result) as ended,
       statement_timestamp() as counted_at
