-- Rows on templates that WeChat does not list any more. $1 appid or null
select appid, template_id, title, removed_at, successor_id, held, waiting
from notification_stranded where $1::text is null or appid = $1 order by appid, template_id
