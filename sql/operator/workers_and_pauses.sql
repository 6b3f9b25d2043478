-- Which workers are alive, and what is paused?
-- 哪些 worker 存活？哪些小程序或模板被暂停？
select 'worker' as what, name || '#' || epoch as which, 'version ' || version || ', ' || in_flight || ' in flight' as state,
       heartbeat_at as since_or_until, null as next_step
from notification_workers_live
union all
select case when template_id is null then 'paused app' else 'paused template' end, concat_ws(' ', appid, template_id),
       concat_ws(': ', reason, meaning), paused_until, resume_with
from notification_pauses
order by 1 desc, 2;
