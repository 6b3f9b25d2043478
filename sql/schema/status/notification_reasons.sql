-- The one home of the words for reasons. They change by release, so they are code and not a table.
create or replace view notification_reasons as
select r.reason_code, r.words, r.words_zh
from (values
    ('being_sent', 'being sent', '正在发送'),
    ('held', 'a held credit, sent only when armed', '预存的订阅次数，激活后才会发送'),
    ('card_in_doubt', 'a send may have arrived; WeChat is asked for the card''s state', '可能已送达；向微信查询卡片状态'),
    ('doubt_on_hold', 'a send may have arrived; waits for evidence or an operator', '可能已送达；等待证据或运维处理'),
    ('in_doubt', 'a send may have arrived; sent again when no evidence comes', '可能已送达；若无证据则重发'),
    ('move_refused', 'the database refuses to move it to the history', '数据库拒绝将其移入历史表'),
    ('unknown_app', 'unknown app', '小程序未登记'),
    ('app_paused', 'app paused: %s', '小程序暂停发送（%s）'),
    ('template_paused', 'template paused: %s', '模板暂停发送（%s）'),
    ('template_removed', 'template paused: %s', '微信的模板列表中已没有该模板'),
    ('reminder_paused', 'its reminder is paused', '其提醒已暂停'),
    ('reminder_busy', 'its reminder is being changed, or the credit it takes is in use; tried again at next_at', '其提醒正在修改，或所需次数正被占用；到 next_at 再试'),
    ('quiet_hours', 'quiet hours; goes out at next_at', '安静时段，到 next_at 再发送'),
    ('is_still_true', 'the business is asked whether it is still true, before next_at', '发送前先向业务方核实是否仍然有效'),
    ('was_paused', 'was paused; its turn comes at next_at', '曾被暂停，等待轮到'),
    ('user_refused', 'the user refused this template%s', '用户已拒绝该模板%s'),
    ('refused', 'WeChat refused it', '微信拒绝'),
    ('failed', 'the attempt failed', '发送失败'),
    ('waits_for_retry', 'waits for its next attempt%s', '等待下次尝试%s'),
    ('before_send_at', 'not before send_at%s', '未到 send_at%s'),
    ('code_before_send_at', 'not before send_at; its login code is exchanged for the openid', '未到 send_at；正在用登录 code 换取 openid'),
    ('user_is_busy', 'an earlier message to this user is being sent', '同一用户的上一条消息正在发送'),
    ('pair_in_doubt', 'an earlier message to this user from this template is in doubt', '同一用户同一模板的上一条消息结果未知'),
    ('exchanges_code', 'its login code is exchanged for the openid', '正在用登录 code 换取 openid'),
    ('waits_for_duplicate', 'waits for notification %s with the same dedup_key', '等待同一 dedup_key 的通知 %s'),
    ('key_is_free', 'its dedup_key is free again: takes its turn', 'dedup_key 已释放，等待轮到'),
    ('about_to_expire', 'expire_at has passed: about to end expired', '已过 expire_at，即将过期'),
    ('waits_for_worker', 'waits for a worker', '等待 worker 领取'),
    ('accepted', 'accepted by WeChat', '微信已接受'),
    ('push_failed', 'accepted by WeChat, whose event then said that the push failed: %s', '微信已接受，其后事件报告推送失败：%s'),
    ('receipt_failed', 'accepted by WeChat, whose sent event then reported a failure: %s', '微信已接受，其后回执报告失败：%s'),
    ('accepted_after_doubt', 'accepted by WeChat; an earlier send was in doubt, so it may have arrived twice', '微信已接受；此前一次发送结果未知，用户可能收到两次'),
    ('arrived_after_doubts', 'it arrived; more than one send was in doubt, so it may have arrived twice', '已送达；不止一次发送结果未知，用户可能收到两次'),
    ('confirmed_by_event', 'WeChat''s sent event ended a doubt', '由微信的送达事件确认'),
    ('confirmed_by_operator', 'an operator confirmed that it was sent', '由运维人员确认'),
    ('confirmed_by_card', 'WeChat shows the card in this state or a later one', '微信上的卡片已处于该状态或之后的状态'),
    ('presumed_sent', '43101 after a doubt on the last credit: the doubtful send had spent it', '结果未知的发送在重试时返回 43101，说明前一次已消耗该次数'),
    ('presumed_sent_after_doubts', '43101 after several doubts: the doubtful sends had spent the credit, so it may have arrived twice', '多次结果未知之后返回 43101，次数已被消耗，用户可能收到两次'),
    ('attempts_used_up', 'attempts used up', '尝试次数用尽'),
    ('expired', 'not sent before expire_at', 'expire_at 之前未能发送'),
    ('expired_in_quiet_hours', 'expire_at passed in quiet hours', '在安静时段内已过 expire_at'),
    ('cancelled_by_operator', 'cancelled by an operator', '运维人员已取消'),
    ('cancelled_by_producer', 'cancelled by its producer', '业务方已取消'),
    ('cancelled_for_own_row', 'made of an accept whose own row came later', '由一次同意生成，而业务方自己的行后来才插入'),
    ('credit_spent', 'spent by notification %s', '已用于通知 %s'),
    ('reminder_lacks_credit', 'the user held no credit when the reminder was to be sent', '提醒发送时用户没有预存的次数'),
    ('taken_off_list', 'the user was taken off the list', '用户已从名单移除'),
    ('no_longer_true', 'no longer true: the business said so when it was to be sent', '发送前业务方答复：已不再有效'),
    ('check_failed', 'the business could not be asked whether it is still true', '无法向业务方核实是否仍然有效'),
    ('dropped_in_quiet_hours', 'its time fell into quiet hours, and its reminder drops such messages', '时间落在安静时段，该提醒设为不发'),
    ('cancelled_with_reminder', 'cancelled with its reminder', '随提醒取消'),
    ('duplicate', 'notification %s with the same dedup_key was sent instead', '同一 dedup_key 的通知 %s 已发送'),
    ('unresolved', 'a send may have arrived; no evidence ever came', '可能已送达，始终没有证据')) r (reason_code, words, words_zh);

comment on view notification_reasons is 'Each reason_code of the view notifications in words.';
comment on column notification_reasons.reason_code is 'As in notifications.reason_code.';
comment on column notification_reasons.words is 'In English; %s stands for details of the row.';
comment on column notification_reasons.words_zh is 'In Chinese; %s stands for details of the row.';

grant select on notification_reasons to wxnotify_worker, wxnotify_producer;
grant select on notification_reasons to wxnotify_operator;
grant select on notification_reasons to wxnotify_viewer;
