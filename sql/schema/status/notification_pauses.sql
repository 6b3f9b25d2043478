create or replace view notification_pauses as
select a.appid, a.name as app, null::text as template_id, nullif(a.paused_until, 'infinity') as paused_until, a.paused_until = 'infinity' as needs_operator,
       a.pause_reason as reason, a.pause_errcode as errcode, wxnotify_errcode_in_words(a.pause_errcode, null, false) as meaning,
       wxnotify_errcode_in_words(a.pause_errcode, null, true) as meaning_zh, 'wxnotify app resume ' || a.appid as resume_with,
       'app_paused' as reason_code
from wechat_apps a where a.paused_until > statement_timestamp()
union all
select t.appid, a.name, t.template_id, nullif(t.paused_until, 'infinity'), t.paused_until = 'infinity', t.pause_reason, t.pause_errcode,
       wxnotify_errcode_in_words(t.pause_errcode, null, false), wxnotify_errcode_in_words(t.pause_errcode, null, true),
       'wxnotify template resume ' || t.appid || ' ' || t.template_id,
       case when t.removed_at is not null and t.pause_errcode = 40037 then 'template_removed' else 'template_paused' end
from wechat_templates t left join wechat_apps a on a.appid = t.appid where t.paused_until > statement_timestamp()
union all
select u.appid, null, null, null, true, 'unknown app', null, null, null, 'wxnotify app add ' || u.appid, 'unknown_app'
from (select distinct l.appid from notification_lanes l) u where not exists (select 1 from wechat_apps a where a.appid = u.appid);

comment on view notification_pauses is 'Apps and templates that send nothing now: paused by an errcode, the breaker or an operator, or not registered.';
comment on column notification_pauses.appid is 'The mini-program.';
comment on column notification_pauses.app is 'Its name.';
comment on column notification_pauses.template_id is 'The template; null: the whole app.';
comment on column notification_pauses.paused_until is 'When it goes on by itself; null: when an operator acts.';
comment on column notification_pauses.needs_operator is 'True: it does not end by itself.';
comment on column notification_pauses.reason is 'Why.';
comment on column notification_pauses.errcode is 'The errcode that paused it.';
comment on column notification_pauses.meaning is 'What that means.';
comment on column notification_pauses.meaning_zh is 'What that means, in Chinese.';
comment on column notification_pauses.resume_with is 'The command that ends it.';
comment on column notification_pauses.reason_code is 'app_paused, template_paused, template_removed or unknown_app; in words: notification_reasons.';

grant select on notification_pauses to wxnotify_worker;
grant select on notification_pauses to wxnotify_operator;
grant select on notification_pauses to wxnotify_viewer;
