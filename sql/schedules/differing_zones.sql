-- Where the server's zone data differ from the program's: for each zone the first instant of those given at which the server has another
-- offset, and which. A zone that the server does not know has no instant. The server reads its list of zones from files, so once.
with known as materialized (
    select n.name from pg_timezone_names n where n.name = any ($1)),
wanted as (
    select w.zone, w.instant, w.offset_secs from unnest($1::text[], $2::timestamptz[], $3::int[]) w (zone, instant, offset_secs)),
judged as (
    select w.zone, w.instant, w.offset_secs, extract(epoch from (w.instant at time zone k.name) - (w.instant at time zone 'UTC'))::int as server_secs
    from wanted w join known k on k.name = w.zone)
(select distinct on (j.zone) j.zone, j.instant, j.offset_secs, j.server_secs from judged j where j.offset_secs <> j.server_secs order by j.zone, j.instant)
union all
(select distinct w.zone, null::timestamptz, null::int, null::int from wanted w where w.zone not in (select k.name from known k))
order by 1
