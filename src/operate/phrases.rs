//! What reports say word for word, in Chinese: headings, columns, and sentences without a value in them.
//!
//! A report is written in English; for a Chinese reader what stands here is said instead. `tests/it/languages.rs` holds every such text of the commands to
//! be here. What has a value in it stands beside its English where it is made.

/// English and Chinese, in the order of the English.
const PHRASES: &[(&str, &str)] = &[
    ("43101", "43101"),
    ("95 % within", "95 % 在此之内"),
    ("99 % within", "99 % 在此之内"),
    (
        "A pseudonym stands for this user from now on; no text is left.",
        "从现在起以化名代替该用户；文字已不再保留。",
    ),
    ("Backlog", "积压"),
    ("Dead letters, last 24 hours", "死信（最近 24 小时）"),
    (
        "Failed attempts, last 24 hours",
        "失败的尝试（最近 24 小时）",
    ),
    (
        "INSERT one into reminder_schedules, see docs/reminders.md",
        "向 reminder_schedules 插入一行，见 docs/reminders.zh-CN.md",
    ),
    ("Last times", "最近几次"),
    ("Next times", "接下来的时刻"),
    (
        "Next times, but for starts_at, ends_at and only_on",
        "接下来的时刻（未考虑 starts_at、ends_at 和 only_on）",
    ),
    ("No app is registered.", "没有登记任何小程序。"),
    (
        "No attempt failed in the last 24 hours.",
        "最近 24 小时没有失败的尝试。",
    ),
    ("No dead letters match.", "没有符合条件的死信。"),
    ("No registered app matches.", "没有符合条件的已登记小程序。"),
    ("No template is known.", "没有已知的模板。"),
    ("Nobody did anything like that.", "没有人做过这样的操作。"),
    (
        "Nobody will lack a credit in the next seven days.",
        "未来七天没有人会缺次数。",
    ),
    (
        "None within the days that are computed ahead.",
        "已计算的日期内没有。",
    ),
    ("None.", "没有。"),
    ("Nothing is in doubt.", "没有结果未知的消息。"),
    (
        "Nothing is known of this user: neither a row nor an accept, as far back as the history reaches.",
        "对该用户一无所知：历史所及，既没有消息也没有同意。",
    ),
    (
        "Nothing is planned for the next seven days.",
        "未来七天没有计划中的消息。",
    ),
    ("Nothing more comes within 41 years.", "41 年之内不再有。"),
    ("Nothing needs you.", "没有需要处理的事。"),
    ("Nothing was sent in the last hour.", "最近一小时没有发送。"),
    ("Paused", "已暂停"),
    (
        "Rows that are kept of this user; nothing was changed.",
        "所保存的该用户的行；没有改动。",
    ),
    ("That you looked is recorded.", "你的查看已被记录。"),
    ("There are no checks.", "没有核实函数。"),
    ("There are no quiet hours.", "没有安静时段。"),
    ("There are no schedules.", "没有提醒。"),
    (
        "There was no batch. The console makes them, and `wxnotify redrive --pace`.",
        "没有批次。控制台和 `wxnotify redrive --pace` 会产生批次。",
    ),
    ("Timeline", "经过"),
    ("To do", "待办"),
    ("Tokens", "access_token"),
    ("UTC", "UTC"),
    ("What became of them", "后来如何"),
    ("Workers", "worker"),
    (
        "`wxnotify app add APPID --default`",
        "`wxnotify app add APPID --default`",
    ),
    ("`wxnotify batch list`", "`wxnotify batch list`"),
    (
        "`wxnotify check add NAME SCHEMA.FUNCTION`, see docs/reminders.md",
        "`wxnotify check add NAME SCHEMA.FUNCTION`，见 docs/reminders.zh-CN.md",
    ),
    (
        "`wxnotify explain ID` for one; mend the cause, then `wxnotify redrive --errcode CODE --dry-run`",
        "用 `wxnotify explain ID` 查看其中一条；排除原因后执行 `wxnotify redrive --errcode CODE --dry-run`",
    ),
    (
        "`wxnotify explain ID` says of a 43101 which it was",
        "`wxnotify explain ID` 会说明 43101 属于哪一种",
    ),
    ("`wxnotify template sync`", "`wxnotify template sync`"),
    ("a day", "每天"),
    ("a minute", "每分钟"),
    ("accepted", "已同意"),
    ("appid", "appid"),
    ("apps", "小程序"),
    ("asked", "询问次数"),
    ("at", "时间"),
    ("attempts", "尝试"),
    ("balance", "余额"),
    ("business ref", "业务编号"),
    ("business_ref", "business_ref"),
    ("by", "操作人"),
    ("cancelled", "已取消"),
    ("cause", "原因"),
    ("check", "检查项"),
    ("created", "创建"),
    ("credit", "次数"),
    ("credits held", "预存次数"),
    ("day", "星期"),
    ("dead", "死信"),
    ("default", "默认"),
    ("details", "详情"),
    ("died", "死信"),
    ("done", "完成"),
    ("doubts", "结果未知"),
    ("elsewhere", "其他系统"),
    ("empty", "空"),
    ("ended", "结束"),
    ("ended or next", "结束或下次"),
    ("errcode", "errcode"),
    ("errors", "失败次数"),
    ("event", "事件"),
    ("events", "事件"),
    ("expired", "过期"),
    ("expires", "到期"),
    ("failing since", "失败自"),
    ("fetched", "获取"),
    ("fields", "字段"),
    ("fires", "触发"),
    ("first", "最早"),
    ("from", "从"),
    ("function", "函数"),
    ("generation", "代"),
    (
        "give the whole value; a msgid without a receipt is looked for in the last 3 days",
        "请给出完整的值；没有回执的 msgid 只在最近 3 天内查找",
    ),
    ("half within", "一半在此之内"),
    ("held", "预存"),
    ("hour", "小时"),
    ("id", "编号"),
    ("ids from", "编号从"),
    (
        "if you know better: `wxnotify doubt confirm-sent --id ID`, `confirm-not-sent` or `retry-anyway`",
        "如已知结果：`wxnotify doubt confirm-sent --id ID`、`confirm-not-sent` 或 `retry-anyway`",
    ),
    ("in doubt", "结果未知"),
    ("in doubt for", "未知已"),
    ("in flight", "发送中"),
    ("kind", "类型"),
    ("last", "最近"),
    ("last accept", "最近同意"),
    ("last seen", "最近心跳"),
    ("late", "已迟"),
    ("left", "剩余"),
    ("listed", "列出"),
    ("local", "当地时间"),
    (
        "look for it by another key: `wxnotify find KEY`",
        "换一个键查找：`wxnotify find KEY`",
    ),
    ("meaning", "含义"),
    (
        "messages in flight or in doubt are settled first: run the same command again in some minutes",
        "正在发送或结果未知的消息要先有结果：几分钟后再次执行同一命令",
    ),
    (
        "more rows match: run the command again, or give a larger --limit",
        "还有更多符合条件的行：再次执行，或增大 --limit",
    ),
    ("name", "名称"),
    (
        "name it in reminder_schedules.still_true, or with `wxnotify check template`",
        "在 reminder_schedules.still_true 中写上它，或使用 `wxnotify check template`",
    ),
    ("new id", "新编号"),
    ("next", "下次"),
    ("no credit", "无次数"),
    ("none", "无"),
    ("none alive", "没有存活的"),
    ("not true", "已不成立"),
    ("of the last hour", "最近一小时"),
    ("on error", "失败时"),
    ("open", "未结束"),
    ("other ends", "其他结束"),
    ("pending", "等待"),
    ("problem", "问题"),
    ("rate is", "速率"),
    ("rate/s", "每秒速率"),
    ("read", "读取"),
    ("reason", "原因"),
    ("receivers", "接收者"),
    ("redriven", "已重投"),
    ("redriven as", "重投为"),
    ("refused", "被拒"),
    ("refuses since", "拒收自"),
    (
        "register one with `wxnotify app add APPID`",
        "用 `wxnotify app add APPID` 登记一个",
    ),
    ("remark", "备注"),
    ("result", "结果"),
    ("rows", "行"),
    (
        "run the command again for the next ones, or raise --limit",
        "再次执行以处理其余的，或增大 --limit",
    ),
    (
        "run the command again for the rows that were not done",
        "再次执行以处理未完成的行",
    ),
    ("sent", "已发送"),
    ("set by", "设置人"),
    ("started", "开始"),
    ("state", "状态"),
    ("status", "状态"),
    ("table", "表"),
    ("template", "模板"),
    ("the new rows are", "新行的状态"),
    (
        "the same command without --dry-run",
        "去掉 --dry-run 执行同一命令",
    ),
    (
        "this shows a token and a user's data: keep it to yourself",
        "其中含有 token 和用户数据：请勿外传",
    ),
    ("title", "标题"),
    ("to", "受众"),
    ("token", "token"),
    (
        "tokens, openids and texts are hidden; `--reveal` shows them",
        "token、openid 和文字已隐藏；`--reveal` 可显示",
    ),
    ("tries", "尝试"),
    ("unclaimed", "未认领"),
    ("until", "直到"),
    ("up", "已运行"),
    ("used", "已用"),
    ("users", "用户"),
    ("verb", "操作"),
    ("version", "版本"),
    ("waiting", "等待"),
    ("what", "什么"),
    ("what next", "接下来"),
    ("what was done", "做了什么"),
    ("when", "何时"),
    ("which", "哪些"),
    ("who", "谁"),
    ("why", "原因"),
    ("will lack a credit", "将缺次数"),
    ("worker", "worker"),
    ("wxnotify does", "wxnotify 的处理"),
    ("zone", "时区"),
];

/// The Chinese of what a report says word for word; `None`: it has none here.
#[must_use]
pub fn in_chinese(english: &str) -> Option<&'static str> {
    let at = PHRASES
        .binary_search_by(|(known, _)| (*known).cmp(english))
        .ok()?;
    Some(PHRASES[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_in_order_and_each_stands_once() {
        assert!(PHRASES.is_sorted_by(|one, other| one.0 < other.0));
        assert_eq!(in_chinese("rows"), Some("行"));
        assert_eq!(in_chinese("tyres"), None);
    }
}
