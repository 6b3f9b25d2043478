-- Are the workers alive, and did anything go out twice?
-- worker 都活着吗？有消息可能发了两次吗？
-- state silent: it stopped without saying so, and what it was sending is in doubt. The last lines count what may have arrived twice within a day, by mini-program;
-- for_instance is one of them.
select 'worker' as what, name || '#' || epoch as which, state, version || ', ' || in_flight || ' in flight' as details, heartbeat_at as at, null::bigint as for_instance
from notification_worker_starts
union all
select 'perhaps twice', appid, null, count(*) || ' notifications', max(finished_at), min(id)
from notifications_final
where finished_at > now() - interval '1 day' and in_doubt_since is not null and may_be_doubled
group by appid
order by 1 desc, 2;
