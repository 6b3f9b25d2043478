-- WeChat's events about a pair since a moment whose msgid belongs to no settled row: evidence nobody has used. WeChat dates
-- an event in whole seconds by its own clock, hence five seconds of grace; a late reply is dated by ours.
create or replace function wxnotify_unowned_events(p_appid text, p_openid text, p_template_id text, p_since timestamptz) returns setof bigint
language sql stable set search_path from current as $$
    select e.msgid from wechat_events e
    where e.appid = p_appid and e.openid = p_openid and e.template_id = p_template_id and e.msgid is not null
      and e.occurred_at >= p_since - case e.event when 'late_reply' then interval '0' else interval '5 seconds' end
      -- The answer to a send that began before is another row's, though its row may not be settled yet.
      and not exists (select 1 from wechat_events l
                      where l.appid = p_appid and l.openid = p_openid and l.template_id = p_template_id and l.msgid = e.msgid
                        and l.event = 'late_reply' and l.occurred_at < p_since)
      and not exists (select 1 from notification_history h
                      where h.appid = p_appid and h.openid = p_openid and h.template_id = p_template_id
                        and (h.msgid = e.msgid
                             -- Within the grace an earlier row of the pair may have been doubtful, too, and ended by its second message:
                             -- then the event may tell of its first, which was sent before that end.
                             or h.in_doubt_since < p_since and h.finished_at <= p_since and e.occurred_at < p_since
                                and e.occurred_at <= h.finished_at + interval '5 seconds'))
    order by e.occurred_at
$$;

comment on function wxnotify_unowned_events is 'WeChat''s events about a pair whose msgid belongs to no settled row.';

grant execute on function wxnotify_unowned_events to wxnotify_worker;
