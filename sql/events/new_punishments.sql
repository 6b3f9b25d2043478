-- Punishments that no log has told of. Each is given to one caller alone: the rows are marked as they are read.
update wechat_events e set applied_at = clock_timestamp()
from wechat_punishments p
where p.id = e.id
  and e.id = any (array(select id from wechat_events where event = 'wxa_punish_event' and applied_at is null order by id limit 100
                        for update skip locked))
returning p.appid, p.punished_at, p.punishment, p.reason, p.banned_functions, p.banned_days
