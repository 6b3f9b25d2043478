-- Forgets events, a bounded batch at a time: receipts after 30 days, when every doubt has long ended and every receipt stands in
-- the history; messages of other systems, which explain a 43101, after 90; what users accepted and refused as long as the history,
-- but for ten days: an accept must not outlive the row that claims it.
delete from wechat_events
where id = any (array(
          select id from wechat_events
          where (case when msgid is null then 2 when applied_at is null then 1 else 0 end) = 0 and received_at < now() - interval '30 days'
          order by received_at limit 10000))
   or id = any (array(
          select id from wechat_events
          where (case when msgid is null then 2 when applied_at is null then 1 else 0 end) = 1 and received_at < now() - interval '90 days'
          order by received_at limit 10000))
   or id = any (array(
          select id from wechat_events
          where (case when msgid is null then 2 when applied_at is null then 1 else 0 end) = 2
            and received_at < now() - make_interval(months => $1) + interval '10 days'
          order by received_at limit 10000))
