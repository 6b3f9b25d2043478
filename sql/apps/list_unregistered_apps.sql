-- Mini-programs that have rows waiting but are not registered: one probe each.
select distinct f.appid from wxnotify_fronts() f where not exists (select 1 from wechat_apps a where a.appid = f.appid)
