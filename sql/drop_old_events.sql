-- Forgets events, a bounded batch at a time: sent events and late replies after 30 days, when every doubt has long ended and
-- every receipt stands in the history; what users accepted and refused after as long as the history is kept.
delete from wechat_events
where id = any (array(
          select id from wechat_events where (msgid is null) = false and received_at < now() - interval '30 days'
          order by received_at limit 10000))
   or id = any (array(
          select id from wechat_events where (msgid is null) = true and received_at < now() - make_interval(months => $1)
          order by received_at limit 10000))
