//! `wxnotify quiet`: when reminders, retries, redrives and the end of a pause wait.
//!
//! Start at [`run`].

use chrono::NaiveTime;
use clap::{Args, Subcommand};
use serde_json::json;

use super::apps::PlainChange;
use super::audit;
use crate::operate::report::{Report, Table, cell, optional};
use crate::operate::verbs::pauses::need_app;
use crate::operate::words::said;
use crate::store::Store;
use crate::store::verbs::BATCH_ROWS;

/// Commands on quiet hours.
#[derive(Debug, Subcommand)]
pub enum QuietCommand {
    /// List the quiet hours, and how many rows wait for their end
    List {
        /// Only of this mini-program
        #[arg(long)]
        appid: Option<String>,
    },
    /// Set the quiet hours of a mini-program, or of one of its templates
    Set(SetArgs),
    /// End the quiet hours of a mini-program, or of one of its templates; rows that wait go out
    Clear {
        /// WeChat's appid
        appid: String,
        /// Those of this template
        #[arg(long, value_name = "TEMPLATE_ID")]
        template: Option<String>,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
}

/// `wxnotify quiet set`
#[derive(Debug, Args)]
pub struct SetArgs {
    /// WeChat's appid
    appid: String,
    /// Wall time at which they begin, such as 22:00
    #[arg(long, value_parser = parse_wall_time)]
    from: NaiveTime,
    /// Wall time at which they end; before --from: on the next day
    #[arg(long, value_parser = parse_wall_time)]
    until: NaiveTime,
    /// Only for this template, in place of its mini-program's
    #[arg(long, value_name = "TEMPLATE_ID")]
    template: Option<String>,
    /// IANA name of the zone of both; reminders count in their own
    #[arg(long, default_value = "Asia/Shanghai", value_name = "ZONE")]
    time_zone: String,
    /// Common options.
    #[command(flatten)]
    options: PlainChange,
}

fn parse_wall_time(text: &str) -> Result<NaiveTime, String> {
    NaiveTime::parse_from_str(text, "%H:%M")
        .map_err(|_| "must be a wall time such as 22:00 or 08:30".to_owned())
}

pub(super) async fn run(command: QuietCommand, store: &Store) -> anyhow::Result<Report> {
    match command {
        QuietCommand::List { appid } => list(store, appid.as_deref()).await,
        QuietCommand::Set(args) => set(store, args).await,
        QuietCommand::Clear {
            appid,
            template,
            options,
        } => clear(store, &appid, template.as_deref(), options).await,
    }
}

async fn list(store: &Store, appid: Option<&str>) -> anyhow::Result<Report> {
    let hours = store.list_quiet_hours(appid).await?;
    let mut report = Report::new(json!({ "quiet_hours": hours }));
    if hours.is_empty() {
        report.line("There are no quiet hours.");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "appid", "template", "from", "until", "zone", "waiting#", "set by",
    ]);
    for quiet in &hours {
        table.row(vec![
            cell(&quiet.appid),
            optional(quiet.template_id.as_ref()),
            cell(&quiet.begins),
            cell(&quiet.ends),
            cell(&quiet.time_zone),
            cell(quiet.waiting),
            cell(&quiet.set_by),
        ]);
    }
    report.table(table);
    Ok(report)
}

async fn set(store: &Store, args: SetArgs) -> anyhow::Result<Report> {
    need_app(store, &args.appid).await?;
    let template = args.template.as_deref();
    let hours = (args.from, args.until);
    let mut due = 0;
    if !args.options.dry_run {
        let audit = audit(args.options.note);
        loop {
            let rows = store
                .set_quiet_hours(&args.appid, template, hours, &args.time_zone, &audit)
                .await?;
            due += i64::from(rows);
            if rows < BATCH_ROWS as i32 {
                break;
            }
        }
    }
    let (from, until) = (args.from.format("%H:%M"), args.until.format("%H:%M"));
    let mut report = Report::new(json!({
        "action": "set_quiet_hours", "dry_run": args.options.dry_run, "appid": args.appid, "template_id": template,
        "from": from.to_string(), "until": until.to_string(), "time_zone": args.time_zone, "rows_made_due": due,
    }));
    let (is, is_zh) = if args.options.dry_run {
        ("would be", "将")
    } else {
        ("is", "")
    };
    let (what, what_zh) = (
        called(&args.appid, template),
        called_zh(&args.appid, template),
    );
    let zone = &args.time_zone;
    report.line(said(
        format!("{what} {is} quiet from {from} to {until} in {zone}: reminders, retries, redrives and the end of a pause wait; urgent rows do not."),
        format!("{what_zh} {is_zh}在 {zone} 的 {from} 至 {until} 为安静时段：提醒、重试、重投和暂停结束后的消息等待；紧急消息不受影响。"),
    ));
    say_due(&mut report, due);
    Ok(report)
}

async fn clear(
    store: &Store,
    appid: &str,
    template: Option<&str>,
    options: PlainChange,
) -> anyhow::Result<Report> {
    need_app(store, appid).await?;
    let mut due = 0;
    if !options.dry_run {
        let audit = audit(options.note);
        loop {
            let rows = store.clear_quiet_hours(appid, template, &audit).await?;
            due += i64::from(rows);
            if rows < BATCH_ROWS as i32 {
                break;
            }
        }
    }
    let mut report = Report::new(json!({
        "action": "clear_quiet_hours", "dry_run": options.dry_run, "appid": appid, "template_id": template, "rows_made_due": due,
    }));
    let (has, has_zh) = if options.dry_run {
        ("would have", "将")
    } else {
        ("has", "")
    };
    let (what, what_zh) = (called(appid, template), called_zh(appid, template));
    report.line(said(
        format!("{what} {has} no quiet hours of its own."),
        format!("{what_zh} {has_zh}没有自己的安静时段。"),
    ));
    say_due(&mut report, due);
    Ok(report)
}

fn called(appid: &str, template: Option<&str>) -> String {
    match template {
        None => format!("App {appid}"),
        Some(template) => format!("Template {template} of app {appid}"),
    }
}

fn called_zh(appid: &str, template: Option<&str>) -> String {
    match template {
        None => format!("小程序 {appid}"),
        Some(template) => format!("小程序 {appid} 的模板 {template}"),
    }
}

fn say_due(report: &mut Report, due: i64) {
    if due > 0 {
        report.line(said(
            format!("{due} rows that waited are due now."),
            format!("等待的 {due} 行现已待发送。"),
        ));
    }
}
