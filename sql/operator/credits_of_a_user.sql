-- Which one-time credits has this user, and which were spent?
-- 这个用户还有哪些一次性订阅次数？用掉了哪些？
-- Put the appid and the openid here. It counts what passed through wxnotify, as far as the history reaches back.
select template_id, held, pending, in_doubt, sent, dead_gone, dead_kept, dead_unknown, unused, last_finished_at
from notification_credits
where appid = 'wx0123456789abcdef' and openid = 'oExampleOfAnOpenid'
order by template_id;
