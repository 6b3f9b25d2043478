-- Templates that are or were paused. $1 appid or null
select t.appid, t.template_id, nullif(t.paused_until, 'infinity') as paused_until, coalesce(t.paused_until > now(), false) as paused,
       t.pause_reason, t.pause_errcode
from wechat_templates t
where $1::text is null or t.appid = $1
order by t.appid, t.template_id
