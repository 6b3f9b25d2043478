-- What is planned of each mini-program for the next seven days, by hour and template.
select a.appid, f.hour, f.template_id, f.rows_due, f.fires, f.receivers, f.lacking, f.credits_held
from wechat_apps a
cross join lateral notification_forecast(a.appid) f
where $1::text is null or a.appid = $1
order by a.appid, f.hour, f.template_id
