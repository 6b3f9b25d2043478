//! The commands that only look: `status`, `explain`, `dead`, `doubt list`.
//!
//! Start at [`status`].

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};

use super::selection::SelectionArgs;
use super::templates::stranded_step;
use crate::legible::{command, few};
use crate::operate::report::{Report, Table, Tone, age, cell, moment, optional};
use crate::operate::reports::{self, Glance, Step};
use crate::operate::words::{Lang, reader, said};
use crate::store::Store;
use crate::store::status::{DeadCount, Explanation, Failure, LiveWorker, Pause, TokenState};

/// `wxnotify status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this mini-program
    #[arg(long)]
    pub appid: Option<String>,
}

/// `wxnotify explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The notification
    pub id: i64,
    /// 用中文说明 (in Chinese)
    #[arg(long)]
    pub zh: bool,
}

/// `wxnotify dead`
#[derive(Debug, Args)]
pub struct DeadArgs {
    /// Which ones.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// `wxnotify doubt list`
#[derive(Debug, Args)]
pub struct DoubtListArgs {
    /// Which ones.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

fn say_left_out(report: &mut Report, left_out: &BTreeMap<&str, usize>, list: &str, what: &str) {
    if let Some(lost) = left_out.get(list) {
        report.line(said(
            format!("… and {lost} more {what}"),
            format!("……另有 {lost} 项"),
        ));
    }
}

pub(super) async fn status(args: StatusArgs, store: &Store) -> anyhow::Result<Report> {
    let glance = Glance::read(store, args.appid.as_deref()).await?;
    let steps = glance.steps(Utc::now());
    let steps: Vec<String> = steps.iter().map(step_in_words).collect();
    let mut report = Report::new(json!({
        "backlog": glance.backlog, "oldest_due": glance.oldest_due, "in_doubt": glance.doubts, "failures_last_day": glance.failures,
        "dead_last_day": glance.dead, "workers": glance.workers, "blockers": glance.blockers, "pauses": glance.pauses, "tokens": glance.tokens,
        "stranded": glance.stranded, "punishments_last_week": glance.punishments, "next_steps": steps,
        "unknown_apps": glance.first_unknown_apps(), "left_out": glance.left_out,
    }));
    let left_out = &glance.left_out;
    show_backlog(&mut report, &glance);
    say_left_out(&mut report, left_out, "backlog", "mini-programs");
    show_workers(&mut report, &glance.workers);
    show_pauses(&mut report, &glance.pauses);
    say_left_out(&mut report, left_out, "pauses", "pauses");
    show_dead(&mut report, &glance.dead);
    say_left_out(&mut report, left_out, "dead_last_day", "lines");
    show_failures(&mut report, &glance.failures);
    say_left_out(&mut report, left_out, "failures_last_day", "lines");
    show_tokens(&mut report, &glance.tokens);
    if steps.is_empty() {
        report.heading("Nothing needs you.");
    } else {
        report.heading("To do");
        for step in steps {
            report.next(step);
        }
    }
    Ok(report)
}

/// What is wrong, and what to do about it.
fn step_in_words(step: &Step<'_>) -> String {
    match step {
        Step::NoWorker => said(
            "rows wait and no worker is alive: start one with `wxnotify run`",
            "有消息在等待而没有存活的 worker：请执行 `wxnotify run`",
        ),
        Step::UnknownApps(appids) => register_apps(appids),
        Step::Blocked(blocker) => {
            let (who, end_with) = (blocker.sentence(), &blocker.end_with);
            let since = blocker.since.map(age).unwrap_or_default();
            said(
                format!(
                    "{who}, for {since}, and workers wait for it: let it commit or roll back, or `{end_with}`"
                ),
                format!(
                    "{who}（已 {since}），worker 在等待它：请让其提交或回滚，或执行 `{end_with}`"
                ),
            )
        }
        Step::Stranded(row) => stranded_step(row),
        Step::Paused(pause) => end_pause(pause),
        Step::Punished(punishment) => {
            let (what, ago) = (punishment.sentence(), age(punishment.punished_at));
            said(
                format!(
                    "{what} ({ago} ago): read the notices at mp.weixin.qq.com and the view wechat_punishments"
                ),
                format!(
                    "{what}（{ago} 前）：请查看 mp.weixin.qq.com 的通知和视图 wechat_punishments"
                ),
            )
        }
        Step::Late => said(
            "the oldest due row is more than 5 minutes late: add workers, or look for a rate limit (`wxnotify app list`) and at each row's reason (sql/operator/what_is_stuck.sql)",
            "最早到期的行已迟 5 分钟以上：增加 worker，或查看速率限制（`wxnotify app list`）及各行的原因（sql/operator/what_is_stuck.sql）",
        ),
        Step::Doubts(count) => said(
            format!(
                "{count} in doubt: `wxnotify doubt list`; those with on_doubt = 'hold' wait for you"
            ),
            format!(
                "{count} 行结果未知：`wxnotify doubt list`；其中 on_doubt = 'hold' 的等待你的判断"
            ),
        ),
        Step::ForeignToken(appid) => said(
            format!(
                "another program refreshes the token of app {appid} by force: let it use getStableAccessToken in normal mode"
            ),
            format!(
                "另有程序强制刷新小程序 {appid} 的 access_token：请让它以普通模式调用 getStableAccessToken"
            ),
        ),
        Step::Died(failure) => {
            let cause = failure.errcode.map_or_else(
                || said("a lost connection", "连接中断"),
                |code| format!("errcode {code}"),
            );
            let (dead, appid) = (failure.dead, &failure.appid);
            let advice = reader().pick(&failure.advice, &failure.advice_zh);
            said(
                format!("{dead} died of {cause} on app {appid}: {advice}"),
                format!("小程序 {appid} 有 {dead} 行因 {cause} 成为死信：{advice}"),
            )
        }
    }
}

fn register_apps(appids: &[String]) -> String {
    let first = appids.first().map_or("", String::as_str);
    let register = command("wxnotify app add {}", &[first]);
    match appids.len() {
        ..=1 => said(
            format!(
                "rows wait for an app that is not registered: {register}, or correct what inserts such an appid"
            ),
            format!("有消息等待一个未登记的小程序：{register}，或更正插入该 appid 的程序"),
        ),
        count => {
            let some = few(appids);
            said(
                format!(
                    "rows wait for {count} apps that are not registered ({some}): {register} and so on, or correct what inserts such appids"
                ),
                format!(
                    "有消息等待 {count} 个未登记的小程序（{some}）：{register} 等，或更正插入这些 appid 的程序"
                ),
            )
        }
    }
}

fn end_pause(pause: &Pause) -> String {
    let appid = &pause.appid;
    let what = pause.template_id.as_deref().map_or_else(
        || said(format!("app {appid}"), format!("小程序 {appid}")),
        |template| {
            said(
                format!("template {template} of app {appid}"),
                format!("小程序 {appid} 的模板 {template}"),
            )
        },
    );
    let meaning = reader().pick(&pause.meaning, &pause.meaning_zh);
    let why = meaning.as_deref().or(pause.reason.as_deref());
    let (why, resume) = (why.unwrap_or("paused"), resume_command(pause));
    said(
        format!("{what} sends nothing ({why}): mend the cause, then {resume}"),
        format!("{what} 停止发送（{why}）：排除原因后执行 {resume}"),
    )
}

/// What ends a pause.
pub(crate) fn resume_command(pause: &Pause) -> String {
    match &pause.template_id {
        Some(template_id) => command(
            "wxnotify template resume {} {}",
            &[&pause.appid, template_id],
        ),
        None => command("wxnotify app resume {}", &[&pause.appid]),
    }
}

fn show_backlog(report: &mut Report, glance: &Glance) {
    let oldest = glance.oldest_due;
    report.heading("Backlog");
    if glance.backlog.is_empty() {
        report.line("empty");
        return;
    }
    /// Rows, since when the oldest is due, whether there are more, and the app's name.
    type Sum<'a> = (i64, Option<DateTime<Utc>>, bool, Option<&'a str>);
    let mut sums: BTreeMap<(&str, &str), Sum<'_>> = BTreeMap::new();
    for row in &glance.backlog {
        let sum =
            sums.entry((&row.appid, &row.status))
                .or_insert((0, None, false, row.app.as_deref()));
        sum.0 += row.rows;
        sum.1 = [sum.1, row.oldest_due].into_iter().flatten().min();
        sum.2 |= row.more;
    }
    let mut table = Table::new(&["appid", "name", "status", "rows#", "late"]);
    for ((appid, status), (rows, oldest, more, name)) in sums {
        let rows = if more {
            format!("{rows}+")
        } else {
            rows.to_string()
        };
        table.row(vec![
            cell(appid),
            optional(name),
            (status.to_owned(), Tone::of_status(status)),
            cell(rows),
            optional(oldest.map(age)),
        ]);
    }
    report.table(table);
    let since = oldest.map_or_else(|| "-".to_owned(), age);
    let doubts = glance.doubts;
    report.line(match oldest {
        None => said(
            format!("oldest due: -; in doubt: {doubts}"),
            format!("最早到期：-；结果未知：{doubts}"),
        ),
        Some(_) => said(
            format!("oldest due: {since} ago; in doubt: {doubts}"),
            format!("最早到期：{since} 前；结果未知：{doubts}"),
        ),
    });
}

fn show_workers(report: &mut Report, workers: &[LiveWorker]) {
    report.heading("Workers");
    if workers.is_empty() {
        report.toned_line("none alive", Tone::Bad);
        return;
    }
    let mut table = Table::new(&["worker", "version", "apps", "in flight#", "up", "last seen"]);
    for worker in workers {
        table.row(vec![
            cell(format!("{}#{}", worker.name, worker.epoch)),
            cell(&worker.version),
            cell(worker.appids.join(" ")),
            cell(worker.in_flight),
            cell(age(worker.started_at)),
            cell(said(
                format!("{} ago", age(worker.heartbeat_at)),
                format!("{} 前", age(worker.heartbeat_at)),
            )),
        ]);
    }
    report.table(table);
}

fn show_pauses(report: &mut Report, pauses: &[Pause]) {
    if pauses.is_empty() {
        return;
    }
    report.heading("Paused");
    let mut table = Table::new(&["appid", "template", "reason", "until"]);
    for pause in pauses {
        table.row(vec![
            cell(&pause.appid),
            optional(pause.template_id.as_ref()),
            optional(match reader() {
                Lang::Zh => pause.meaning_zh.as_ref().or(pause.reason.as_ref()),
                Lang::En => pause.reason.as_ref().or(pause.meaning.as_ref()),
            }),
            if pause.needs_operator {
                (said("an operator acts", "由运维恢复"), Tone::Bad)
            } else {
                moment(pause.paused_until)
            },
        ]);
    }
    report.table(table);
}

fn show_dead(report: &mut Report, dead: &[DeadCount]) {
    report.heading("Dead letters, last 24 hours");
    if dead.is_empty() {
        report.line("none");
        return;
    }
    let mut table = Table::new(&["appid", "status", "rows#", "redriven#", "meaning"]);
    for row in dead {
        table.row(vec![
            cell(&row.appid),
            (row.status.clone(), Tone::of_status(&row.status)),
            cell(row.rows),
            cell(row.redriven),
            optional(reader().pick(&row.meaning, &row.meaning_zh).as_ref()),
        ]);
    }
    report.table(table);
}

fn show_failures(report: &mut Report, failures: &[Failure]) {
    if failures.is_empty() {
        return;
    }
    report.heading("Failed attempts, last 24 hours");
    let mut table = Table::new(&[
        "appid",
        "errcode#",
        "attempts#",
        "dead#",
        "doubts#",
        "meaning",
    ]);
    for failure in failures {
        table.row(vec![
            cell(&failure.appid),
            optional(failure.errcode),
            cell(failure.attempts),
            cell(failure.dead),
            cell(failure.doubts),
            cell(reader().pick(&failure.meaning, &failure.meaning_zh)),
        ]);
    }
    report.table(table);
}

fn show_tokens(report: &mut Report, tokens: &[TokenState]) {
    let fetched: Vec<String> = tokens
        .iter()
        .filter(|token| token.expires_at.is_some())
        .map(|token| {
            let state = if token.valid {
                said("valid", "有效")
            } else {
                said("expired", "已失效")
            };
            format!("{} {state}", token.appid)
        })
        .collect();
    if !fetched.is_empty() {
        report.heading("Tokens");
        report.line(fetched.join(", "));
    }
}

pub(super) async fn explain(args: ExplainArgs, store: &Store) -> anyhow::Result<Report> {
    let story = store.explain_notification(args.id).await?;
    let mut report = Report::new(&story);
    report.toned_line(
        format!("{}  {}", story.id, story.status),
        Tone::of_status(&story.status),
    );
    let is_chinese = args.zh || reader() == Lang::Zh;
    if is_chinese {
        report.line(&story.sentence_zh).next(&story.what_next_zh);
    } else {
        report.line(&story.sentence).next(&story.what_next);
    }
    show_timeline(&mut report, &story, is_chinese);
    if story.status == "not found" {
        report.in_part();
    }
    Ok(report)
}

fn show_timeline(report: &mut Report, story: &Explanation, chinese: bool) {
    let Some(events) = story
        .timeline
        .as_array()
        .filter(|events| !events.is_empty())
    else {
        return;
    };
    report.heading("Timeline");
    let mut table = Table::new(&["at", "event", "details"]);
    for event in events {
        let at = event["at"].as_str().unwrap_or_default();
        let at = DateTime::parse_from_rfc3339(at).map(|at| at.with_timezone(&Utc));
        table.row(vec![
            moment(at.ok()),
            cell(event["event"].as_str().unwrap_or_default()),
            cell(details(event, chinese)),
        ]);
    }
    report.table(table);
}

/// What an event of the timeline holds beside its time and name, as `key value` pairs.
fn details(event: &Value, chinese: bool) -> String {
    let Some(fields) = event.as_object() else {
        return String::new();
    };
    let other_language = if chinese { "meaning" } else { "meaning_zh" };
    let shown = fields.iter().filter(|(key, _)| {
        !matches!(key.as_str(), "at" | "event" | "started_at" | "received_at")
            && key.as_str() != other_language
            // The meaning begins with the code.
            && !(key.as_str() == "errcode" && fields.contains_key("meaning"))
    });
    let words: Vec<String> = shown
        .map(|(key, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            match key.as_str() {
                "meaning" | "meaning_zh" => value,
                "response_ms" => format!("after {value} ms"),
                _ => format!("{} {value}", key.replace('_', " ")),
            }
        })
        .collect();
    words.join(", ")
}

pub(super) async fn dead(args: DeadArgs, store: &Store) -> anyhow::Result<Report> {
    let rows_max = args.limit as usize;
    let page = reports::dead_letters(store, &args.selection.to_filter(), rows_max).await?;
    let (letters, more) = (page.rows, page.more);
    let mut report = Report::new(json!({ "dead_letters": letters, "more": more }));
    if letters.is_empty() {
        report.line("No dead letters match.");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "id#",
        "appid",
        "status",
        "ended",
        "tries#",
        "credit",
        "business ref",
        "redriven as#",
        "why",
    ]);
    for letter in &letters {
        table.row(vec![
            cell(letter.id),
            cell(&letter.appid),
            (letter.status.clone(), Tone::of_status(&letter.status)),
            moment(Some(letter.finished_at)),
            cell(letter.attempts),
            optional(letter.credit.as_ref()),
            optional(letter.business_ref.as_ref()),
            optional(letter.redriven_as),
            optional(reader().pick(&letter.meaning, &letter.meaning_zh).as_ref()),
        ]);
    }
    report.table(table);
    if more {
        report.line(format!(
            "The latest {rows_max} of more: raise --limit or narrow the selection."
        ));
    }
    report.next("`wxnotify explain ID` for one; mend the cause, then `wxnotify redrive --errcode CODE --dry-run`");
    Ok(report)
}

pub(super) async fn doubt_list(args: DoubtListArgs, store: &Store) -> anyhow::Result<Report> {
    let rows_max = args.limit as usize;
    let page = reports::doubts(store, &args.selection.to_filter(), rows_max).await?;
    let (doubts, more) = (page.rows, page.more);
    let mut report = Report::new(json!({ "doubts": doubts, "more": more }));
    if doubts.is_empty() {
        report.line("Nothing is in doubt.");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "id#",
        "appid",
        "template",
        "business ref",
        "in doubt for",
        "events#",
        "next",
        "what next",
    ]);
    for doubt in &doubts {
        let what_next = if doubt.is_sending {
            "is being sent again"
        } else {
            &doubt.what_next
        };
        table.row(vec![
            cell(doubt.id),
            cell(&doubt.appid),
            cell(&doubt.template_id),
            optional(doubt.business_ref.as_ref()),
            (age(doubt.in_doubt_since), Tone::Warning),
            cell(doubt.events_since),
            moment(doubt.next_at),
            cell(what_next),
        ]);
    }
    report.table(table);
    if more {
        report.line(format!(
            "The oldest {rows_max} of more: raise --limit or narrow the selection."
        ));
    }
    report.next("if you know better: `wxnotify doubt confirm-sent --id ID`, `confirm-not-sent` or `retry-anyway`");
    Ok(report)
}
