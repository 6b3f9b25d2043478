-- Whether login codes of these mini-programs wait for their exchange; those of a paused one wait for its end.
select exists (select from wechat_apps a
               where a.appid = any ($1) and (a.paused_until is null or a.paused_until <= clock_timestamp())
                 and exists (select from pending_notifications p where p.appid = a.appid and p.login_code is not null))
