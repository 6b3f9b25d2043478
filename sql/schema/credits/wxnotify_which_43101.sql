-- Which 43101 it was: never_accepted, refused, used_up or spent_elsewhere, with the evidence and how certain it makes us.
--
-- WeChat's code does not say, so it is told from the books. A 43101 without a refusal means that no credit is left, so every
-- accept we know of has been spent: what wxnotify did not spend, somebody else did, and WeChat's sent events with a msgid
-- that is none of ours name some of those. Each message sent elsewhere explains one 43101 of ours, which is why the pair's
-- earlier ones are gone through in order. SECURITY DEFINER: who may read the views needs no right to the tables.
create or replace function wxnotify_which_43101(
    p_id bigint, out which text, out certainty text, out evidence text, out evidence_zh text)
language plpgsql stable security definer set search_path from current set jit = off as $$
declare
    n            record;
    d            record;
    v_said       record;
    v_accepts    bigint;   -- by WeChat's pop-up events
    v_sent       bigint;   -- by wxnotify
    v_doubtful   bigint;   -- perhaps by wxnotify
    v_foreign    bigint;   -- by others, as sent events tell
    v_elsewhere  bigint := 0;
    v_until      timestamptz;  -- events are dated by WeChat's clock, hence the grace
    v_rejects    boolean;
    v_popups     boolean;
    v_form       constant text := 'YYYY-MM-DD HH24:MI:SSOF';
begin
    select x.* into n from (
        select h.id, h.appid, h.openid, h.template_id, h.kind, h.created_at, h.finished_at from notification_history h
        where h.id = p_id and h.errcode = 43101
        union all
        select p.id, p.appid, p.openid, p.template_id, p.kind, p.created_at, p.last_attempt_at from pending_notifications p
        where p.id = p_id and p.last_errcode = 43101) x limit 1;
    if n.id is null then
        return;
    end if;
    for d in
        select n.id, n.created_at, n.finished_at
        union
        select h.id, h.created_at, h.finished_at from notification_history h
        where h.appid = n.appid and h.openid = n.openid and h.template_id = n.template_id and wxnotify_spends_credit(h.kind)
          and h.status = 'dead' and h.errcode = 43101 and (h.finished_at, h.id) < (n.finished_at, n.id)
        order by 3, 1
    loop
        v_until := d.finished_at + interval '5 seconds';
        select e.answer, e.event, e.occurred_at into v_said from wechat_events e
        where e.appid = n.appid and e.openid = n.openid and e.template_id = n.template_id and e.answer is not null
          and e.occurred_at <= v_until
        order by e.occurred_at desc, e.answer desc limit 1;
        -- A message that went out after the reject shows that the user had accepted again.
        continue when d.id <> n.id and v_said.answer = 'reject';
        which := null;
        if v_said.answer = 'reject' and not exists (
                select 1 from notification_history h
                where h.appid = n.appid and h.openid = n.openid and h.template_id = n.template_id and h.status = 'sent'
                  and h.created_at > v_said.occurred_at + interval '1 second' and h.finished_at < d.finished_at) then
            which := 'refused';
            continue;
        end if;
        select count(*) filter (where e.answer = 'accept' and e.event = 'subscribe_msg_popup_event'), bool_or(e.answer = 'reject')
        into v_accepts, v_rejects from wechat_events e
        where e.appid = n.appid and e.openid = n.openid and e.template_id = n.template_id and e.answer is not null
          and e.occurred_at <= v_until;
        select count(*) filter (where h.status in ('sent', 'presumed_sent')), count(*) filter (where h.status = 'unresolved')
        into v_sent, v_doubtful from notification_history h
        where h.appid = n.appid and h.openid = n.openid and h.template_id = n.template_id and wxnotify_spends_credit(h.kind)
          and h.finished_at <= d.finished_at and h.id <> d.id;
        v_doubtful := v_doubtful + (
            select count(*) from pending_notifications p
            where p.appid = n.appid and p.openid = n.openid and p.template_id = n.template_id and p.in_doubt_since <= d.finished_at);
        select count(distinct e.msgid) into v_foreign from wechat_events e
        where e.appid = n.appid and e.openid = n.openid and e.template_id = n.template_id
          and e.event = 'subscribe_msg_sent_event' and e.msgid is not null
          and e.occurred_at <= v_until
          and not exists (select 1 from notification_history h
                          where h.appid = n.appid and h.openid = n.openid and h.template_id = n.template_id and h.msgid = e.msgid);
        -- A doubtful send of ours may be the one that an unowned event names, or that a credit is missing for.
        v_foreign := greatest(v_foreign - v_doubtful, 0);
        if greatest(v_foreign, v_accepts - v_sent - v_doubtful) > v_elsewhere then
            which := 'spent_elsewhere';
            v_elsewhere := v_elsewhere + 1;
        elsif v_accepts + v_sent + v_doubtful + v_foreign = 0 then
            which := 'never_accepted';
        else
            which := 'used_up';
        end if;
    end loop;

    if which = 'refused' then
        certainty := case when n.created_at < v_said.occurred_at then 'certain' else 'likely' end;
        evidence := format('WeChat pushed a reject of %s (%s)%s.', to_char(v_said.occurred_at, v_form),
            case v_said.event when 'subscribe_msg_popup_event' then 'in the pop-up' else 'in the card''s menu' end,
            case certainty when 'likely' then '; the row was inserted after it, and no later accept was pushed' else '' end);
        evidence_zh := format('微信于 %s 推送过拒绝事件（%s）%s。', to_char(v_said.occurred_at, v_form),
            case v_said.event when 'subscribe_msg_popup_event' then '弹窗' else '消息菜单' end,
            case certainty when 'likely' then '；该行在其后插入，但之后没有收到新的同意事件' else '' end);
        return;
    end if;
    if not wxnotify_spends_credit(n.kind) then
        which := 'refused';
        certainty := 'likely';
        evidence := 'Such a message spends no credit, so the user never subscribed or has turned it off.';
        evidence_zh := '此类消息不消耗次数，因此是用户从未订阅或已关闭。';
        return;
    end if;
    v_popups := exists (select 1 from wechat_events e where e.appid = n.appid and e.answer is not null and e.event = 'subscribe_msg_popup_event');
    case which
    when 'spent_elsewhere' then
        certainty := case when v_foreign >= v_elsewhere then 'certain' when v_rejects then 'possible' else 'likely' end;
        if certainty = 'certain' then
            evidence := format('WeChat''s sent events name %s message(s) to this user from this template that wxnotify did not send.', v_foreign);
            evidence_zh := format('微信的送达事件显示，有 %s 条同一用户同一模板的消息不是 wxnotify 发送的。', v_foreign);
        else
            evidence := format('WeChat pushed %s accept(s) and wxnotify spent %s: a credit must have been left%s.', v_accepts, v_sent + v_doubtful,
                case when v_rejects then ', unless a reject in between ended it' else '' end);
            evidence_zh := format('微信推送过 %s 次同意，wxnotify 只用掉 %s 次，本应还有剩余%s。', v_accepts, v_sent + v_doubtful,
                case when v_rejects then '（除非中间的拒绝使其失效）' else '' end);
        end if;
    when 'used_up' then
        certainty := case when v_accepts > 0 and v_sent + v_doubtful > 0 then 'likely' else 'possible' end;
        evidence := format('WeChat pushed %s accept(s); wxnotify sent %s, %s more may have arrived, and %s were sent elsewhere.',
            v_accepts, v_sent, v_doubtful, greatest(v_foreign, v_elsewhere));
        evidence_zh := format('微信推送过 %s 次同意；wxnotify 已发送 %s 条，另有 %s 条可能已送达，其他系统发送 %s 条。',
            v_accepts, v_sent, v_doubtful, greatest(v_foreign, v_elsewhere));
    else
        certainty := case when v_popups then 'likely' else 'possible' end;
        evidence := 'Nothing was ever sent to this user from this template, and no accept was pushed' || case when v_popups
            then ', although pop-up events of this app do arrive.' else '; but no pop-up event of this app ever arrived.' end;
        evidence_zh := '从未向该用户成功发送过该模板的消息，也没有收到同意事件' || case when v_popups
            then '，而该小程序的弹窗事件是能收到的。' else '；但该小程序从未收到过弹窗事件。' end;
    end case;
end $$;

comment on function wxnotify_which_43101 is 'Which 43101 a notification met: never_accepted, refused, used_up or spent_elsewhere, with the evidence; certainty is certain, likely or possible. Nulls for a notification that met none.';

grant execute on function wxnotify_which_43101 to wxnotify_operator, wxnotify_viewer, wxnotify_worker;
