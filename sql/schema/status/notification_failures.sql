create or replace view notification_failures as
select a.appid, a.errcode, coalesce(e.meaning_en, case when a.errcode is null then 'no readable reply' else 'errcode not in the table' end) as meaning,
       coalesce(e.meaning_zh, case when a.errcode is null then '没有可读的回复' else '未收录的错误码' end) as meaning_zh,
       e.disposition, count(*) as attempts,
       count(*) filter (where a.result = 'dead') as dead, count(*) filter (where a.result = 'doubt') as doubts,
       min(a.finished_at) as first_at, max(a.finished_at) as last_at, coalesce(e.advice, wxnotify_advice(a.errcode, e.disposition, false)) as advice,
       wxnotify_advice(a.errcode, e.disposition, true) as advice_zh
from notification_attempts a
left join wechat_errcodes e on e.errcode = a.errcode
where a.finished_at > statement_timestamp() - interval '1 day' and a.result not in ('sent', 'presumed_sent')
group by a.appid, a.errcode, e.errcode;

comment on view notification_failures is 'Attempts of the last 24 hours that did not succeed, by app and errcode, with meaning and advice.';
comment on column notification_failures.appid is 'The mini-program.';
comment on column notification_failures.errcode is 'WeChat''s errcode; null when no readable reply came.';
comment on column notification_failures.meaning is 'What it means.';
comment on column notification_failures.meaning_zh is 'What it means, in Chinese.';
comment on column notification_failures.disposition is 'What wxnotify does about it.';
comment on column notification_failures.attempts is 'Attempts that met it.';
comment on column notification_failures.dead is 'Attempts that ended in the dead letters.';
comment on column notification_failures.doubts is 'Attempts that left a doubt.';
comment on column notification_failures.first_at is 'First of the day.';
comment on column notification_failures.last_at is 'Last of the day.';
comment on column notification_failures.advice is 'What to do.';
comment on column notification_failures.advice_zh is 'What to do, in Chinese.';

grant select on notification_failures to wxnotify_worker;
grant select on notification_failures to wxnotify_operator;
grant select on notification_failures to wxnotify_viewer;
