-- Registered apps. An app is the default when INSERTs may leave appid out.
select a.appid, a.name, a.rate_per_second, nullif(a.paused_until, 'infinity') as paused_until,
       coalesce(a.paused_until > now(), false) as paused, a.pause_reason, a.pause_errcode, a.probing, a.created_at,
       coalesce((select pg_get_expr(d.adbin, d.adrelid) = quote_literal(a.appid) || '::text'
                 from pg_attrdef d join pg_attribute c on c.attrelid = d.adrelid and c.attnum = d.adnum
                 where d.adrelid = 'pending_notifications'::regclass and c.attname = 'appid'), false) as is_default
from wechat_apps a
order by a.appid
