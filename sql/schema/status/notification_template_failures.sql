-- The failures of a day by template. An attempt does not name its template: its row does, looked up by id.
create or replace view notification_template_failures as
select f.appid, f.template_id, f.errcode, coalesce(e.meaning_en, case when f.errcode is null then 'no readable reply' else 'errcode not in the table' end) as meaning,
       coalesce(e.meaning_zh, case when f.errcode is null then '没有可读的回复' else '未收录的错误码' end) as meaning_zh,
       f.attempts, f.dead, f.doubts, f.first_at, f.last_at, coalesce(e.advice, wxnotify_advice(f.errcode, e.disposition, false)) as advice,
       wxnotify_advice(f.errcode, e.disposition, true) as advice_zh
from (
    select a.appid, r.template_id, a.errcode, count(*) as attempts, count(*) filter (where a.result = 'dead') as dead,
           count(*) filter (where a.result = 'doubt') as doubts, min(a.finished_at) as first_at, max(a.finished_at) as last_at
    from notification_attempts a
    cross join lateral (
        select p.template_id from pending_notifications p where p.id = a.notification_id
        union all
        select h.template_id from notification_history h where h.id = a.notification_id
        limit 1) r
    where a.finished_at > statement_timestamp() - interval '1 day' and a.result not in ('sent', 'presumed_sent', 'late_reply', 'read_back')
    group by a.appid, r.template_id, a.errcode) f
left join wechat_errcodes e on e.errcode = f.errcode;

comment on view notification_template_failures is 'Attempts of the last 24 hours that failed, by mini-program, template and errcode.';
comment on column notification_template_failures.appid is 'The mini-program.';
comment on column notification_template_failures.template_id is 'The template.';
comment on column notification_template_failures.errcode is 'WeChat''s errcode; null: no readable reply came.';
comment on column notification_template_failures.meaning is 'What it means.';
comment on column notification_template_failures.meaning_zh is 'The same in Chinese.';
comment on column notification_template_failures.attempts is 'Failed attempts.';
comment on column notification_template_failures.dead is 'Attempts that ended their row.';
comment on column notification_template_failures.doubts is 'Attempts whose result is unknown.';
comment on column notification_template_failures.first_at is 'Since when, within the 24 hours.';
comment on column notification_template_failures.last_at is 'The last one.';
comment on column notification_template_failures.advice is 'What to do next.';
comment on column notification_template_failures.advice_zh is 'The same in Chinese.';

grant select on notification_template_failures to wxnotify_worker;
grant select on notification_template_failures to wxnotify_operator;
grant select on notification_template_failures to wxnotify_viewer;
