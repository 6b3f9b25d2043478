-- When the templates of each registered app were last read, and what failed since. $1 appid or null
select a.appid, l.done_at, l.failed_at, l.errcode, l.error, l.due_at as next_at
from wechat_apps a left join wechat_lookups l on l.appid = a.appid and l.lookup = 'templates'
where $1::text is null or a.appid = $1
order by a.appid
