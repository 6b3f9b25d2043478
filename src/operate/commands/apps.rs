//! `wxnotify app`: registering, pausing and resuming.
//!
//! Start at [`run`].

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::selection::parse_time;
use super::{OperateError, audit};
use crate::legible::{command, is_plain};
use crate::operate::report::{Report, Table, Tone, cell, moment, optional};
use crate::operate::verbs::pauses::{self, Added, Target, need_app};
use crate::operate::words::{self, said};
use crate::store::Store;

/// Commands on mini-programs.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Register a mini-program, or change its name and rate; rows that waited for it start
    Add {
        /// WeChat's appid
        appid: String,
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        /// Most sends per second of all workers together
        #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
        rate: Option<f32>,
        /// Make it the default of pending_notifications.appid, so that INSERTs may leave it out
        #[arg(long)]
        default: bool,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// List the registered mini-programs
    List,
    /// Send nothing more of a mini-program; what is in flight is finished
    Pause {
        /// WeChat's appid
        appid: String,
        /// How long, and why.
        #[command(flatten)]
        pause: PauseArgs,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// End the pause of a mini-program
    Resume {
        /// WeChat's appid
        appid: String,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// Let reminders to more users than this wait for an operator's approval
    Approval {
        /// WeChat's appid
        appid: String,
        /// A number of users, or `none`
        #[arg(value_name = "ABOVE|none", value_parser = parse_above)]
        above: Above,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// Set or lift the limit on sends per second
    Rate {
        /// WeChat's appid
        appid: String,
        /// Sends per second of all workers together, or `none`
        #[arg(value_name = "PER_SECOND|none")]
        rate: RateLimit,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
}

/// Options of a change that is not about a selection of notifications.
#[derive(Debug, Clone, Args)]
pub struct PlainChange {
    /// Only say what would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// Your reason, kept in operator_actions
    #[arg(long)]
    pub note: Option<String>,
}

/// How long a pause lasts, and why.
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    /// End by itself then: a time with its zone, or a span from now such as +2h; without it an operator must resume
    #[arg(long, value_parser = parse_time)]
    pub until: Option<DateTime<Utc>>,
    /// Shown as the reason of every row that waits for it
    #[arg(long, default_value = "by an operator")]
    pub reason: String,
}

/// Sends per second, or no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit(pub Option<f32>);

impl std::str::FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        parse_rate(text).map(|rate| Self(Some(rate)))
    }
}

/// A number of users, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Above(pub Option<i32>);

fn parse_above(text: &str) -> Result<Above, String> {
    match text.parse::<i32>() {
        Ok(above) if above >= 0 => Ok(Above(Some(above))),
        _ if text == "none" => Ok(Above(None)),
        _ => Err("must be a number of users such as 1000, or none".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<f32, String> {
    let rate: f32 = text
        .parse()
        .map_err(|_| "must be a number of sends per second, such as 100 or 0.5".to_owned())?;
    if rate > 0.0 && rate <= 1_000_000.0 {
        Ok(rate)
    } else {
        Err("must be more than 0 and at most 1000000 sends per second".to_owned())
    }
}

pub(super) async fn run(command: AppCommand, store: &Store) -> anyhow::Result<Report> {
    match command {
        AppCommand::Add {
            appid,
            name,
            rate,
            default,
            options,
        } => add(store, &appid, name, rate, default, options).await,
        AppCommand::List => list_apps(store).await,
        AppCommand::Pause {
            appid,
            pause: args,
            options,
        } => {
            need_app(store, &appid).await?;
            pause(store, of_app(&appid), &args, options).await
        }
        AppCommand::Resume { appid, options } => {
            need_app(store, &appid).await?;
            resume(store, of_app(&appid), options).await
        }
        AppCommand::Approval {
            appid,
            above: Above(above),
            options,
        } => set_approval(store, &appid, above, options).await,
        AppCommand::Rate {
            appid,
            rate: RateLimit(rate),
            options,
        } => set_rate(store, &appid, rate, options).await,
    }
}

fn of_app(appid: &str) -> Target<'_> {
    Target {
        appid,
        template_id: None,
    }
}

pub(super) async fn pause(
    store: &Store,
    target: Target<'_>,
    args: &PauseArgs,
    options: PlainChange,
) -> anyhow::Result<Report> {
    let dry_run = options.dry_run;
    if !dry_run {
        let audit = audit(options.note);
        pauses::pause(store, target, args.until, &args.reason, &audit).await?;
    }
    Ok(pause_report(target, args, dry_run))
}

pub(super) async fn resume(
    store: &Store,
    target: Target<'_>,
    options: PlainChange,
) -> anyhow::Result<Report> {
    let dry_run = options.dry_run;
    let due = if dry_run {
        0
    } else {
        pauses::resume(store, target, &audit(options.note)).await?
    };
    Ok(resume_report(target, due, dry_run))
}

async fn set_rate(
    store: &Store,
    appid: &str,
    rate: Option<f32>,
    options: PlainChange,
) -> anyhow::Result<Report> {
    need_app(store, appid).await?;
    if !options.dry_run {
        store
            .set_app_rate(appid, rate, &audit(options.note))
            .await?;
    }
    let mut report = Report::new(json!({
        "action": "set_app_rate", "dry_run": options.dry_run, "appid": appid, "rate_per_second": rate,
    }));
    let (sends, sends_zh) = sends(options.dry_run);
    report.line(match rate {
        None => said(
            format!("App {appid} {sends} without a limit."),
            format!("小程序 {appid} {sends_zh}没有速率限制。"),
        ),
        Some(rate) => said(
            format!("App {appid} {sends} at most {rate} a second."),
            format!("小程序 {appid} {sends_zh}每秒最多发送 {rate} 条。"),
        ),
    });
    Ok(report)
}

async fn set_approval(
    store: &Store,
    appid: &str,
    above: Option<i32>,
    options: PlainChange,
) -> anyhow::Result<Report> {
    need_app(store, appid).await?;
    if !options.dry_run {
        let audit = audit(options.note);
        store.set_app_approval(appid, above, &audit).await?;
    }
    let mut report = Report::new(json!({
        "action": "set_app_approval", "dry_run": options.dry_run, "appid": appid, "above": above,
    }));
    let (sends, sends_zh) = sends(options.dry_run);
    report.line(match above {
        Some(above) => said(
            format!("App {appid} {sends} a reminder to more than {above} users only after `wxnotify schedule approve`."),
            format!("小程序 {appid} {sends_zh}在执行 `wxnotify schedule approve` 之后才发送接收者超过 {above} 人的提醒。"),
        ),
        None => said(
            format!("App {appid} {sends} reminders without an approval."),
            format!("小程序 {appid} {sends_zh}不经批准即可发送提醒。"),
        ),
    });
    Ok(report)
}

/// The tense of a change that was made, or would be.
fn sends(dry_run: bool) -> (&'static str, &'static str) {
    if dry_run {
        ("would send", "将")
    } else {
        ("sends", "")
    }
}

async fn add(
    store: &Store,
    appid: &str,
    name: Option<String>,
    rate: Option<f32>,
    default: bool,
    options: PlainChange,
) -> anyhow::Result<Report> {
    if appid.len() > 64 || !is_plain(appid) {
        return Err(OperateError::usage(
            format!(
                "appid {appid:?}: must be 1 to 64 letters, digits, _ or -, and not begin with -"
            ),
            "copy it from WeChat's console, such as wx0123456789abcdef",
        )
        .into());
    }
    let Added {
        is_new,
        rows_made_due,
    } = if options.dry_run {
        let known = store.list_apps().await?;
        Added {
            is_new: !known.iter().any(|app| app.appid == appid),
            rows_made_due: 0,
        }
    } else {
        let audit = audit(options.note.clone());
        pauses::add_app(store, appid, name.as_deref(), rate, default, &audit).await?
    };
    let mut report = Report::new(json!({
        "action": "add_app", "dry_run": options.dry_run, "appid": appid, "name": name, "rate_per_second": rate,
        "new": is_new, "default": default, "rows_made_due": rows_made_due,
    }));
    let (done, done_zh) = match (is_new, options.dry_run) {
        (true, false) => ("registered", "已登记"),
        (true, true) => ("would be registered", "将登记"),
        (false, false) => ("updated", "已更新"),
        (false, true) => ("would be updated", "将更新"),
    };
    let (is_default, is_default_zh) = if default {
        (
            ", the default of pending_notifications.appid",
            "，并作为 pending_notifications.appid 的默认值",
        )
    } else {
        ("", "")
    };
    report.line(said(
        format!("App {appid} {done}{is_default}."),
        format!("小程序 {appid} {done_zh}{is_default_zh}。"),
    ));
    if rows_made_due > 0 {
        report.line(said(
            format!("{rows_made_due} rows that waited for it are due now."),
            format!("等待它的 {rows_made_due} 行现已待发送。"),
        ));
    }
    if is_new {
        report.next(said(
            format!("give the workers its secret in WXNOTIFY_APPSECRET_{appid} (or its file in WXNOTIFY_APPSECRET_FILE_{appid}) and run `wxnotify run`"),
            format!("在 WXNOTIFY_APPSECRET_{appid}（或以 WXNOTIFY_APPSECRET_FILE_{appid} 指定文件）中给出其密钥，并执行 `wxnotify run`"),
        ));
    }
    Ok(report)
}

async fn list_apps(store: &Store) -> anyhow::Result<Report> {
    let apps = store.list_apps().await?;
    let mut report = Report::new(json!({ "apps": apps }));
    if apps.is_empty() {
        report
            .line("No app is registered.")
            .next("`wxnotify app add APPID --default`");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "appid", "name", "state", "rate/s#", "reason", "until", "default",
    ]);
    for app in &apps {
        let (state, tone) = match (app.paused, app.probing) {
            (true, _) => (said("paused", "已暂停"), Tone::Bad),
            (false, true) => (said("probing", "试探中"), Tone::Warning),
            (false, false) => (said("sends", "发送中"), Tone::Good),
        };
        table.row(vec![
            cell(&app.appid),
            optional(app.name.as_ref()),
            (state, tone),
            optional(app.rate_per_second),
            optional(app.pause_reason.as_ref().filter(|_| app.paused)),
            until(app.paused, app.paused_until),
            cell(if app.is_default {
                said("yes", "是")
            } else {
                String::new()
            }),
        ]);
    }
    report.table(table);
    Ok(report)
}

pub(super) fn until(paused: bool, time: Option<DateTime<Utc>>) -> (String, Tone) {
    match (paused, time) {
        (false, _) => cell(""),
        (true, None) => cell(said("an operator resumes it", "由运维恢复")),
        (true, time) => moment(time),
    }
}

/// `app wx1` or `template T of app wx1`.
fn called(target: Target<'_>) -> String {
    let Target { appid, template_id } = target;
    match template_id {
        None => said(format!("App {appid}"), format!("小程序 {appid}")),
        Some(template_id) => said(
            format!("Template {template_id} of app {appid}"),
            format!("小程序 {appid} 的模板 {template_id}"),
        ),
    }
}

/// `app` or `template`.
fn kind(target: Target<'_>) -> &'static str {
    target.template_id.map_or("app", |_| "template")
}

fn pause_report(target: Target<'_>, pause: &PauseArgs, dry_run: bool) -> Report {
    let Target { appid, template_id } = target;
    let what = kind(target);
    let mut report = Report::new(json!({
        "action": format!("pause_{what}"), "dry_run": dry_run, "appid": appid, "template_id": template_id,
        "until": pause.until, "reason": pause.reason,
    }));
    let end = pause.until.map_or_else(
        || said("until it is resumed", "直到恢复"),
        |time| {
            said(
                format!("until {}", words::moment(time)),
                format!("至 {}", words::moment(time)),
            )
        },
    );
    let (is, is_zh) = if dry_run {
        ("would be", "将")
    } else {
        ("is", "已")
    };
    let what = called(target);
    report.line(said(
        format!("{what} {is} paused {end}."),
        format!("{what} {is_zh}暂停{end}。"),
    ));
    if pause.until.is_none() && !dry_run {
        report.next(match template_id {
            None => command("wxnotify app resume {}", &[appid]),
            Some(template_id) => command("wxnotify template resume {} {}", &[appid, template_id]),
        });
    }
    report
}

fn resume_report(target: Target<'_>, due: i64, dry_run: bool) -> Report {
    let Target { appid, template_id } = target;
    let what = kind(target);
    let mut report = Report::new(json!({
        "action": format!("resume_{what}"), "dry_run": dry_run, "appid": appid, "template_id": template_id, "rows_made_due": due,
    }));
    if dry_run {
        report.line(said(
            format!("{} would be resumed.", called(target)),
            format!("{} 将恢复。", called(target)),
        ));
    } else {
        report.line(said(
            format!(
                "{} is resumed; {due} parked rows are due now.",
                called(target)
            ),
            format!("{} 已恢复；搁置的 {due} 行现已待发送。", called(target)),
        ));
    }
    report
}
