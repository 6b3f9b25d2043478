-- The whole story of one row; the events it tells of a doubt are those that wxnotify_unowned_events takes for evidence. STABLE, so that all of its statements read one snapshot: as several it once said "no such
-- row" while the row moved from one table to the other.
create or replace function explain_notification(
    p_id bigint,
    out id bigint, out status text, out sentence text, out sentence_zh text, out what_next text, out what_next_zh text,
    out next_at timestamptz, out timeline jsonb
) language plpgsql stable security definer set search_path from current set jit = off as $$
declare
    n            notifications%rowtype;
    v_doing      text;   -- the errcode or failure of the last attempt in words
    v_doing_zh   text;
    v_next       text;   -- next_at as people write it
    v_app        wechat_apps%rowtype;
    v_template   wechat_templates%rowtype;
    v_receipt    text;   -- what a sent event that is no success says
    v_which      record; -- which 43101 it was
    v_words_zh   text;   -- the reason's words in Chinese
    v_refused    record; -- the refusal that a row waits out
    v_blocker    record; -- who holds what the workers need
    v_holder     text;   -- that in words
    v_new_id     bigint;
    v_old_id     bigint;
    v_reminder   text;   -- the name of the reminder that made it
    v_check      reminder_checks%rowtype;
    v_is_deleted boolean; -- true when that one was deleted since
    v_form       constant text := 'YYYY-MM-DD HH24:MI:SSOF';
begin
    select * into n from notifications v where v.id = p_id;
    id := p_id;
    if n.id is null then
        status := 'not found';
        sentence := format('No notification has the id %s: it was never inserted, its transaction was rolled back, or retention has dropped it.', coalesce(p_id::text, 'null'));
        sentence_zh := format('没有编号为 %s 的通知：从未插入、所在事务已回滚，或已超过保留期被清除。', coalesce(p_id::text, 'null'));
        what_next := 'Look for it by its business object: select id, status, reason from notifications where business_ref = ''…''.';
        what_next_zh := '按业务对象查找：select id, status, reason from notifications where business_ref = ''…''。';
        timeline := '[]';
        return;
    end if;

    status := n.status;
    next_at := n.next_at;
    v_next := to_char(n.next_at, v_form);
    select r.words_zh into v_words_zh from notification_reasons r where r.reason_code = n.reason_code;
    v_doing := wxnotify_errcode_in_words(n.errcode, n.errmsg, false);
    v_doing_zh := wxnotify_errcode_in_words(n.errcode, n.errmsg, true);
    select r.new_id into v_new_id from notification_redrives r where r.redriven_id = p_id;
    select r.redriven_id into v_old_id from notification_redrives r where r.new_id = p_id;
    if n.schedule_id is not null then
        select s.name into v_reminder from reminder_schedules s where s.id = n.schedule_id;
        if found then
            select c.* into v_check from reminder_schedules s join reminder_checks c on c.name = wxnotify_check_of(s) where s.id = n.schedule_id;
        else
            v_is_deleted := true;
            select d.name into v_reminder from reminder_schedules_deleted d where d.schedule_id = n.schedule_id;
        end if;
    end if;
    select * into v_app from wechat_apps a where a.appid = n.appid;
    select * into v_template from wechat_templates t where t.appid = n.appid and t.template_id = n.template_id;

    case n.status
    when 'held' then
        sentence := 'A held credit: recorded, and sent only when it is armed.';
        sentence_zh := '预存的订阅次数：已登记，激活后才会发送。';
        what_next := 'Arm it with arm(appid, openid, template_id, data), or set held = false.'
                     || coalesce(' Unused, it ends expired at ' || v_next || '.', '');
        what_next_zh := '用 arm(appid, openid, template_id, data) 激活，或将 held 置为 false。' || coalesce('未使用则于 ' || v_next || ' 过期。', '');
    when 'scheduled' then
        sentence := case n.reason_code
            when 'quiet_hours' then format('It waits for the end of quiet hours%s.', coalesce(', and its last attempt failed: ' || v_doing, ''))
            when 'is_still_true' then 'It waits for the business''s word that it is still true.'
            else format('Scheduled: not to be sent before %s.%s', to_char(n.send_at, v_form),
                case when n.openid is null then ' Its login code is exchanged for the openid before.' else '' end) end;
        sentence_zh := case n.reason_code
            when 'quiet_hours' then '处于安静时段，等待其结束' || coalesce('；上次尝试失败：' || v_doing_zh, '') || '。'
            when 'is_still_true' then '发送前等待业务方确认仍然有效。'
            else format('已排期：%s 之前不发送。%s', to_char(n.send_at, v_form), case when n.openid is null then '此前先用登录 code 换取 openid。' else '' end) end;
        what_next := case when n.reason_code = 'is_still_true' and v_check.problem is not null and v_check.failing_since is not null
                               then format('Its check %s fails since %s: %s. It is asked again at %s.', v_check.name, to_char(v_check.failing_since, v_form), v_check.problem, v_next)
                          when n.reason_code = 'is_still_true' then format('Its check is asked at %s; the message goes out or is cancelled by the answer.', v_next)
                          when n.next_at = n.expire_at and n.reason_code = 'quiet_hours' then format('It ends expired at %s, before they end.', v_next)
                          when n.next_at = n.expire_at then format('It ends expired at %s, before its send_at.', v_next)
                          else format('A worker sends it at %s.', v_next) end;
        what_next_zh := case when n.reason_code = 'is_still_true' and v_check.problem is not null and v_check.failing_since is not null
                                  then format('其核实函数 %s 自 %s 起失败（%s），%s 再次询问。', v_check.name, to_char(v_check.failing_since, v_form), v_check.problem, v_next)
                             when n.reason_code = 'is_still_true' then format('%s 询问核实函数，并按答复发送或取消。', v_next)
                             when n.next_at = n.expire_at and n.reason_code = 'quiet_hours' then format('安静时段结束之前将于 %s 过期。', v_next)
                             when n.next_at = n.expire_at then format('expire_at 早于 send_at，将于 %s 过期。', v_next)
                             else format('到 %s 由 worker 发送。', v_next) end;
    when 'due' then
        sentence := format('Due since %s: %s.', v_next, n.reason);
        sentence_zh := format('自 %s 起待发送：%s。', v_next,
            format(v_words_zh, (select k.id from notification_keys k where k.appid = n.appid and k.dedup_key = n.dedup_key)));
        if n.next_at > statement_timestamp() then
            sentence := format('It waits: %s.', n.reason);
        end if;
        if not exists (select 1 from notification_workers_live w where n.appid = any (w.appids) or w.appids = '{}') then
            what_next := 'No live worker serves this app: start one with `wxnotify run` and the app''s secret in WXNOTIFY_APPSECRET_' || n.appid || '.';
            what_next_zh := '没有存活的 worker 服务该小程序：请配置 WXNOTIFY_APPSECRET_' || n.appid || ' 并运行 `wxnotify run`。';
        elsif n.openid is null then
            what_next := 'A worker exchanges the code at once; it is dead-lettered if that does not succeed while the code lives, 5 minutes.';
            what_next_zh := '由 worker 立即换取；若在 code 的 5 分钟有效期内未成功则进入死信。';
        elsif v_app.probing then
            what_next := 'Its app is being probed with one row after a pause; when that one succeeds the others follow.';
            what_next_zh := '该小程序暂停后正在用一条消息试探，成功后其余消息继续发送。';
        else
            what_next := 'A worker takes it when its turn comes' || case when n.next_at > statement_timestamp() then ', at ' || v_next || ' or sooner.' else '.' end;
            what_next_zh := '轮到时由 worker 发送' || case when n.next_at > statement_timestamp() then '，不晚于 ' || v_next || '。' else '。' end;
        end if;
    when 'sending' then
        sentence := format('Being sent by worker %s: attempt %s.', n.worker, n.attempts + 1);
        sentence_zh := format('worker %s 正在发送：第 %s 次尝试。', n.worker, n.attempts + 1);
        what_next := format('It is settled as soon as the reply comes. Without one it is in doubt after %s.', v_next);
        what_next_zh := format('收到回复后立即记录结果；若无回复，%s 之后结果记为未知（in_doubt）。', v_next);
    when 'retrying' then
        sentence := format('Attempt %s of %s failed: %s.', n.attempts, n.attempts_max, coalesce(v_doing, 'no details recorded'));
        sentence_zh := format('第 %s 次尝试（最多 %s 次）失败：%s。', n.attempts, n.attempts_max, coalesce(v_doing_zh, '无详细记录'));
        what_next := case when n.next_at = n.expire_at then format('It ends expired at %s, before another attempt.', v_next)
                          else format('Attempt %s follows at %s.', n.attempts + 1, v_next) end;
        what_next_zh := case when n.next_at = n.expire_at then format('下次尝试之前将于 %s 过期。', v_next)
                             else format('%s 进行第 %s 次尝试。', v_next, n.attempts + 1) end;
    when 'in_doubt' then
        sentence := format('In doubt: a send begun at %s may have reached the user, and its reply was lost.', to_char(n.in_doubt_since, v_form));
        sentence_zh := format('结果未知：%s 开始的发送可能已送达用户，但回复丢失。', to_char(n.in_doubt_since, v_form));
        if n.reason_code = 'card_in_doubt' then
            what_next := format('WeChat is asked for the card''s state at %s: if it is there the row ends sent, else it is sent again.', v_next);
            what_next_zh := format('%s 向微信查询卡片状态：状态已存在则记为已发送，否则重新发送。', v_next);
        elsif n.on_doubt = 'hold' then
            what_next := 'It is not sent again by itself. If you know better: confirm_sent(id), confirm_not_sent(id) or retry_anyway(id).'
                         || coalesce(' Else it ends unresolved at ' || v_next || '.', '');
            what_next_zh := '不会自动重发。如已知结果：confirm_sent(id)、confirm_not_sent(id) 或 retry_anyway(id)。'
                            || coalesce('否则于 ' || v_next || ' 以 unresolved 结束。', '');
        elsif n.attempts >= n.attempts_max or n.next_at = n.expire_at then
            what_next := format('Evidence is awaited until %s; then it ends unresolved: no attempt or no time is left.', v_next);
            what_next_zh := format('等待证据至 %s；尝试次数或时间已用尽，届时以 unresolved 结束。', v_next);
        else
            what_next := format('Evidence is awaited until %s; without any it is sent again, and the user may receive it twice.', v_next);
            what_next_zh := format('等待证据至 %s；若无证据则重发，用户可能收到两次。', v_next);
        end if;
    when 'paused' then
        sentence := format('Paused: %s.', n.reason);
        select r.refused_at, r.said_by into v_refused from wechat_refusals r
        where r.appid = n.appid and r.openid = n.openid and r.template_id = n.template_id and n.reason_code = 'user_refused';
        sentence_zh := format('已暂停：%s。', format(v_words_zh, case n.reason_code
            when 'app_paused' then coalesce(v_app.pause_reason, '未说明原因')
            when 'template_paused' then coalesce(v_template.pause_reason, '未说明原因')
            when 'user_refused' then case v_refused.said_by
                when 'popup' then format('（%s 在弹窗中拒绝）', to_char(v_refused.refused_at, v_form))
                when 'change' then format('（%s 在消息菜单中关闭）', to_char(v_refused.refused_at, v_form))
                when '43101' then format('（%s 的发送返回 43101）', to_char(v_refused.refused_at, v_form)) else '' end end));
        if n.reason_code = 'user_refused' then
            what_next := 'It goes on with the user''s next accept: ask for it in the mini-program.';
            what_next_zh := '用户再次同意后继续发送：请在小程序内重新请求订阅。';
        elsif v_app.appid is null then
            what_next := format('Register the app: `wxnotify app add %s`.', n.appid);
            what_next_zh := format('登记小程序：`wxnotify app add %s`。', n.appid);
        elsif v_app.paused_until = 'infinity' then
            what_next := format('It waits for an operator: mend the cause, then `wxnotify app resume %s`.', n.appid);
            what_next_zh := format('等待运维处理：排除原因后执行 `wxnotify app resume %s`。', n.appid);
        elsif v_template.paused_until = 'infinity' and v_template.removed_at is not null and v_template.pause_errcode = 40037 then
            what_next := 'It goes on by itself if WeChat lists the template again (`wxnotify template sync`). A template that was added anew has another id, and this credit is not good for it: collect a new one, then cancel this row.';
            what_next_zh := '若微信重新列出该模板则自动恢复（`wxnotify template sync`）。重新添加的模板 ID 不同，此订阅次数不能用于新 ID：请重新获取授权后取消本条。';
        elsif v_template.paused_until = 'infinity' then
            what_next := format('It waits for an operator: mend the cause, then `wxnotify template resume %s %s`.', n.appid, n.template_id);
            what_next_zh := format('等待运维处理：排除原因后执行 `wxnotify template resume %s %s`。', n.appid, n.template_id);
        else
            what_next := format('It goes on by itself at %s.', v_next);
            what_next_zh := format('%s 自动恢复。', v_next);
        end if;
        if v_next is not null and n.next_at = n.expire_at then
            what_next := what_next || format(' Still paused at %s, it ends expired.', v_next);
            what_next_zh := what_next_zh || format('若 %s 仍未恢复则过期。', v_next);
        end if;
    when 'sent' then
        sentence := format('Sent at %s%s: %s.', to_char(n.finished_at, v_form), coalesce(' with msgid ' || n.msgid, ''), n.reason);
        sentence_zh := format('已于 %s 发送%s：%s。', to_char(n.finished_at, v_form), coalesce('，msgid ' || n.msgid, ''),
            format(v_words_zh, coalesce(n.receipt_status, n.receipt_code::text, '未说明原因')));
        if n.kind = 'service_card' and n.receipt_at is not null then
            v_receipt := coalesce(n.receipt_status, n.receipt_code::text, 'unknown');
            sentence_zh := sentence_zh || format('微信 %s 的事件报告推送失败：%s。', to_char(n.receipt_at, v_form), v_receipt);
            what_next := 'It is not sent again by itself: mend the cause, then insert the state anew.';
            what_next_zh := '不会自动重发：排除原因后重新插入该状态。';
        elsif n.receipt_code = 0 then
            sentence := sentence || format(' WeChat''s sent event of %s confirmed it.', to_char(n.receipt_at, v_form));
            sentence_zh := sentence_zh || format('微信 %s 的回执确认已送达。', to_char(n.receipt_at, v_form));
        elsif n.receipt_at is not null then
            v_receipt := coalesce(n.receipt_status, n.receipt_code::text, 'unknown');
            sentence := sentence || format(' WeChat''s sent event of %s reported a failure: %s.', to_char(n.receipt_at, v_form), v_receipt);
            sentence_zh := sentence_zh || format('微信 %s 的回执报告失败：%s。', to_char(n.receipt_at, v_form), v_receipt);
            what_next := 'It is not sent again by itself: WeChat accepted it, so the credit is most likely spent.';
            what_next_zh := '不会自动重发：微信已接受该消息，订阅次数很可能已消耗。';
        end if;
    when 'presumed_sent' then
        sentence := format('Presumed sent: the retry of a send in doubt met 43101 at %s, so the doubtful send had spent the credit.', to_char(n.finished_at, v_form));
        sentence_zh := format('推定已发送：结果未知的发送在重试时于 %s 返回 43101，说明前一次已消耗该次数。', to_char(n.finished_at, v_form));
        if n.may_be_doubled then
            sentence := sentence || ' More than one send was in doubt, so the user may have received it twice.';
            sentence_zh := sentence_zh || '不止一次发送结果未知，用户可能收到两次。';
        end if;
    when 'dead' then
        sentence := format('Dead-lettered at %s after %s attempt(s)%s: %s.', to_char(n.finished_at, v_form), n.attempts,
            case n.settled_by when 'late_reply' then ', by a reply that came late' else '' end, coalesce(v_doing, 'attempts used up'));
        sentence_zh := format('已于 %s 进入死信，共尝试 %s 次%s：%s。', to_char(n.finished_at, v_form), n.attempts,
            case n.settled_by when 'late_reply' then '（迟到的回复）' else '' end, coalesce(v_doing_zh, '尝试次数用尽'));
        if n.errcode = 43101 and n.kind in ('one_time', 'long_term') then
            select w.* into v_which from wxnotify_which_43101(n.id) w;
            sentence := sentence || format(' Which 43101: %s, %s. %s', replace(v_which.which, '_', ' '), v_which.certainty, v_which.evidence);
            sentence_zh := sentence_zh || format('属于哪种 43101：%s（%s）。%s',
                case v_which.which when 'never_accepted' then '从未授权' when 'refused' then '用户已拒绝' when 'used_up' then '次数已用完' else '次数被其他系统用掉' end,
                case v_which.certainty when 'certain' then '确定' when 'likely' then '很可能' else '可能' end, v_which.evidence_zh);
        end if;
        if v_new_id is null and n.openid is null then
            what_next := 'Its receiver never became known: have the page call wx.login again and insert a new row with the fresh code.';
            what_next_zh := '始终未得到接收人：请页面重新调用 wx.login，并用新的 code 插入新行。';
        elsif v_new_id is null and n.kind in ('device', 'service_card') then
            what_next := 'Mend the cause, then insert a corrected row or `wxnotify redrive --id ' || n.id || '`.';
            what_next_zh := '排除原因后插入修正的行，或执行 `wxnotify redrive --id ' || n.id || '`。';
        elsif v_new_id is null then
            what_next := case n.credit
                when 'gone' then 'The user''s credit is gone: collect a new one in the mini-program; a redrive would meet 43101.'
                when 'kept' then 'WeChat most likely still holds the credit: mend the cause, then insert a corrected row or `wxnotify redrive --id ' || n.id || '`.'
                else 'Whether the credit still exists is unknown: mend the cause, then try `wxnotify redrive --id ' || n.id || '`.' end;
            what_next_zh := case n.credit
                when 'gone' then '用户的订阅次数已不存在：请在小程序内重新获取授权；直接重投会返回 43101。'
                when 'kept' then '微信很可能仍保留该次数：排除原因后插入修正的行，或执行 `wxnotify redrive --id ' || n.id || '`。'
                else '订阅次数是否仍在未知：排除原因后可执行 `wxnotify redrive --id ' || n.id || '`。' end;
        end if;
    when 'expired' then
        sentence := format('Expired: not sent before %s%s.%s', to_char(n.expire_at, v_form), case n.reason_code when 'expired_in_quiet_hours' then ', which came in quiet hours' else '' end, case n.kind when 'one_time' then ' The credit was not spent.' else '' end);
        sentence_zh := format('已过期：%s 之前未能发送%s%s。', to_char(n.expire_at, v_form), case n.reason_code when 'expired_in_quiet_hours' then '（处于安静时段）' else '' end, case n.kind when 'one_time' then '，订阅次数未消耗' else '' end);
        if v_new_id is null and n.openid is not null then
            what_next := 'If it still matters: `wxnotify redrive --id ' || n.id || '` sends it without the old expire_at.';
            what_next_zh := '如仍需发送：`wxnotify redrive --id ' || n.id || '`（不再沿用旧的 expire_at）。';
        end if;
    when 'cancelled' then
        sentence := format('Cancelled at %s by %s.', to_char(n.finished_at, v_form), case n.settled_by when 'operator' then 'an operator'
            when 'policy' then 'wxnotify: ' || case n.reason_code when 'cancelled_for_own_row' then 'it was ' || n.reason else n.reason end
            else 'its producer' end);
        sentence_zh := format('已于 %s 由%s取消。', to_char(n.finished_at, v_form), case n.settled_by when 'operator' then '运维人员'
            when 'policy' then ' wxnotify（' || format(v_words_zh, substring(n.errmsg from '[0-9]+$'))
                || case n.reason_code when 'cancelled_with_reminder' then '：' || n.reason else '' end || '）' else '业务方' end);
        if n.reason_code = 'reminder_lacks_credit' then
            what_next := 'Have the user accept in the mini-program before the reminder''s next time; the forecast says who else will lack one.';
            what_next_zh := '请在提醒的下一次之前让用户在小程序内同意；预测会列出还有谁将缺次数。';
        end if;
    when 'duplicate' then
        sentence := format('Not sent: notification %s with the same dedup_key was sent instead.', n.duplicate_of);
        sentence_zh := format('未发送：同一 dedup_key 的通知 %s 已发送。', n.duplicate_of);
    when 'unresolved' then
        sentence := format('Unresolved at %s: a send begun at %s may have reached the user; no evidence ever came.', to_char(n.finished_at, v_form), to_char(n.in_doubt_since, v_form));
        sentence_zh := format('于 %s 以未决结束：%s 开始的发送可能已送达，始终没有证据。', to_char(n.finished_at, v_form), to_char(n.in_doubt_since, v_form));
        if v_new_id is null then
            what_next := 'Ask the user or the business system; `wxnotify redrive --id ' || n.id || '` sends it once more, perhaps a second time.';
            what_next_zh := '请向用户或业务系统核实；`wxnotify redrive --id ' || n.id || '` 会再发一次，用户可能收到两次。';
        end if;
    end case;
    if n.status = 'sent' and n.receipt_at is null
       and exists (select 1 from notification_attempts a where a.notification_id = p_id and wxnotify_attempt_code(a.reason) = 'disputed') then
        sentence := sentence || ' Its answer came for another notification, too, and is one of theirs at most: the msgid is disputed.';
        sentence_zh := sentence_zh || '同一应答也到达了另一条通知，至多属于其中之一：msgid 存疑。';
        what_next := 'Only WeChat''s sent event says whose it is; the timeline names the other notification.';
        what_next_zh := '只有微信的送达事件能说明归属；另一条通知见 timeline。';
    end if;
    if n.status in ('scheduled', 'retrying') and v_app.paused_until > statement_timestamp() then
        sentence := sentence || format(' Its app is paused until %s, before that: %s.', to_char(v_app.paused_until, v_form), coalesce(v_app.pause_reason, 'no reason given'));
        sentence_zh := sentence_zh || format('该小程序在此之前暂停至 %s（%s）。', to_char(v_app.paused_until, v_form), coalesce(v_app.pause_reason, '未说明原因'));
    elsif n.status in ('scheduled', 'retrying') and v_template.paused_until > statement_timestamp() then
        sentence := sentence || format(' Its template is paused until %s, before that: %s.', to_char(v_template.paused_until, v_form), coalesce(v_template.pause_reason, 'no reason given'));
        sentence_zh := sentence_zh || format('该模板在此之前暂停至 %s（%s）。', to_char(v_template.paused_until, v_form), coalesce(v_template.pause_reason, '未说明原因'));
    end if;
    if n.finished_at is null and n.status <> 'held' and (n.status = 'sending' or n.next_at <= statement_timestamp()) then
        select b.* into v_blocker from wxnotify_holders() b
        where b.appid = n.appid or b.appid is null and b.holds_code = 'tables' order by b.appid is null, b.since limit 1;
        if v_blocker.holds is not null then
            v_holder := coalesce('session ' || v_blocker.pid, 'prepared transaction ' || v_blocker.prepared)
                || coalesce(' of user ' || v_blocker.username, '') || coalesce(' (' || v_blocker.application || ')', '');
            sentence := sentence || format(' It is held up%s: %s holds %s.', coalesce(' since ' || to_char(v_blocker.since, v_form), ''), v_holder, v_blocker.holds);
            sentence_zh := sentence_zh || format('被阻塞%s：%s 持有%s。', coalesce('（自 ' || to_char(v_blocker.since, v_form) || ' 起）', ''), v_holder,
                case v_blocker.holds_code when 'tables' then '表锁：' || v_blocker.holds else '该小程序的锁' end);
            what_next := format('Let that one commit or roll back, or end it: %s.', v_blocker.end_with);
            what_next_zh := format('请让其提交或回滚，或将其结束：%s。', v_blocker.end_with);
        end if;
    end if;
    if n.reason_code = 'move_refused' then
        sentence := format('It has ended%s, but %s.', case when exists (select 1 from notification_attempts a where a.notification_id = p_id and a.result = 'sent')
            then ' (sent)' else '' end, n.reason);
        sentence_zh := format('它已结束%s，但%s：%s。', case when exists (
            select 1 from notification_attempts a where a.notification_id = p_id and a.result = 'sent') then '（已发送）' else '' end,
            v_words_zh, substr(n.reason, strpos(n.reason, ': ') + 2));
        what_next := format('It is not sent again. Remove the foreign key, trigger or rule that is not wxnotify''s (`wxnotify doctor` names it); moving it is tried again at %s.', v_next);
        what_next_zh := format('不会再次发送。请移除不属于 wxnotify 的外键、触发器或规则（`wxnotify doctor` 会列出）；%s 再次尝试移入。', v_next);
    end if;
    if v_new_id is not null then
        what_next := format(case n.reason_code when 'credit_spent' then 'Its credit went to notification %s: explain that one.'
                                               else 'It was redriven as notification %s: explain that one.' end, v_new_id);
        what_next_zh := format(case n.reason_code when 'credit_spent' then '其次数已用于通知 %s，请查看该条。' else '已重投为通知 %s，请查看该条。' end, v_new_id);
    end if;
    what_next := coalesce(what_next, 'Nothing: this is final.');
    what_next_zh := coalesce(what_next_zh, '无：已是最终状态。');

    select coalesce(jsonb_agg(jsonb_strip_nulls(e.what) || jsonb_build_object('at', e.at) order by e.at, e.rank), '[]') into timeline
    from (
        select 0 as rank, n.created_at as at, jsonb_build_object('event', 'created', 'by', n.producer, 'redrive_of', v_old_id,
            'reminder', v_reminder, 'reminder_id', n.schedule_id, 'reminder_deleted', v_is_deleted, 'made_for', to_char(n.local_at, 'YYYY-MM-DD HH24:MI:SS')) as what
        union all
        select 1, n.send_at, jsonb_build_object('event', 'scheduled') where n.send_at > n.created_at
        union all
        select 2, l.leased_at, jsonb_build_object('event', 'leased', 'worker', l.worker, 'lease_id', l.lease_id)
        from notification_leases l where l.appid = n.appid and p_id = any (l.ids)
        union all
        select 3, l.started_at, jsonb_build_object('event', 'started', 'worker', l.worker, 'lease_id', l.lease_id)
        from notification_leases l where l.appid = n.appid and p_id = any (l.ids) and l.started_at is not null
        union all
        select 4, a.finished_at, jsonb_build_object('event', 'attempt', 'attempt', a.attempt, 'result', a.result, 'errcode', a.errcode,
            'errmsg', a.errmsg, 'meaning', wxnotify_errcode_in_words(a.errcode, null, false), 'meaning_zh', wxnotify_errcode_in_words(a.errcode, null, true),
            'reason', a.reason, 'http_status', a.http_status, 'rid', a.rid, 'response_ms', a.response_ms, 'worker', a.worker, 'started_at', a.started_at)
        from notification_attempts a where a.notification_id = p_id
        union all
        select 5, n.in_doubt_since, jsonb_build_object('event', 'in doubt') where n.in_doubt_since is not null
        union all
        select 6, w.occurred_at, jsonb_build_object('event', w.event, 'msgid', w.msgid::text, 'received_at', w.received_at)
        from wechat_events w
        where n.in_doubt_since is not null and w.appid = n.appid and w.openid = n.openid and w.template_id = n.template_id
          and w.msgid is not null and w.occurred_at >= n.in_doubt_since - case w.event when 'late_reply' then interval '0' else interval '5 seconds' end
        union all
        -- msgid as text: it exceeds 2^53, which JSON readers round
        select 8, n.finished_at, jsonb_build_object('event', 'ended', 'status', n.status, 'settled_by', n.settled_by, 'worker', n.worker,
            'msgid', n.msgid::text, 'duplicate_of', n.duplicate_of)
        where n.finished_at is not null
        union all
        -- WeChat's whole seconds may lie before our moment of settling; the receipt still comes after it
        select 9, greatest(n.receipt_at, n.finished_at), jsonb_build_object('event', 'receipt', 'dated', n.receipt_at, 'code', n.receipt_code, 'status', n.receipt_status)
        where n.receipt_at is not null
        union all
        select 10, r.at, jsonb_build_object('event', 'redriven', 'as', r.new_id, 'by', r.actor) from notification_redrives r where r.redriven_id = p_id
    ) e;
end $$;

comment on function explain_notification is 'One row that tells what happened to a notification, why, what happens next and when; in English and Chinese, with a timeline. An unknown id gets an answer too.';

grant execute on function explain_notification to wxnotify_operator, wxnotify_viewer;
