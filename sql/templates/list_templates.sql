-- Templates that WeChat lists or listed, and those that are or were paused. $1 appid or null
select t.appid, t.template_id, t.title, t.kind, t.fields, t.enums, t.content, t.data_check, t.listed_at, t.synced_at, t.removed_at,
       nullif(t.paused_until, 'infinity') as paused_until, coalesce(t.paused_until > now(), false) as paused,
       t.pause_reason, t.pause_errcode
from wechat_templates t
where $1::text is null or t.appid = $1
order by t.appid, t.removed_at is not null, t.title, t.template_id
