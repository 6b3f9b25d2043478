-- Messages that WeChat's sent events of the last day name and that no notification of ours owns, an hour after the event at the
-- latest; at most 1,000 are counted.
select e.appid, count(*) as events
from (select f.appid from wechat_events f
      where case when f.msgid is null then 2 when f.applied_at is null then 1 else 0 end = 1 and f.event = 'subscribe_msg_sent_event'
        and f.received_at between now() - interval '1 day' and now() - interval '1 hour'
      limit 1000) e
group by e.appid order by e.appid
