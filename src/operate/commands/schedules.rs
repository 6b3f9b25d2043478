//! `wxnotify schedule`: reminders, their times, and what became of each.
//!
//! Start at [`run`], or at [`answer_alone`] for what needs no database.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::apps::PlainChange;
use super::new_schedule::{AddArgs, add};
use super::{OperateError, audit};
use crate::exit::Exit;
use crate::operate::report::{Report, Table, Tone, cell, optional};
use crate::operate::words::{fire_reason, reader, said};
use crate::reminder::calendar::{Calendar, FireTime};
use crate::reminder::zone::{ZONE_DATA, first_instant_of, local_at};
use crate::store::Store;
use crate::store::schedules::{FireOutcome, NextFire, Schedule};

/// How many times `show` tells of, to come and gone.
const SHOWN_NEXT: i32 = 5;
const SHOWN_LAST: i64 = 10;

/// Commands on reminder schedules.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List the schedules with their next and last times
    List {
        /// Only of this mini-program
        #[arg(long)]
        appid: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
        limit: u16,
    },
    /// One schedule: its next times, and what became of the last
    Show(Which),
    /// The next times of a schedule; or, without a database, of a cron text
    Next(NextArgs),
    /// Make no more fires of a schedule; rows that were made wait, and still expire
    Pause {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// End the pause of a schedule; its column missed says what becomes of times that passed
    Resume {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// Leave out the next time of a schedule
    Skip {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// Add a schedule, as its business would
    Add(Box<AddArgs>),
    /// Delete a schedule; rows that were made and not sent are cancelled
    Remove {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Only say what would be deleted
        #[arg(long)]
        dry_run: bool,
    },
    /// Approve a schedule, as it is now, for more users than its mini-program allows without
    Approve {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// Send a schedule's message to one user now; it spends a credit as the reminder does
    Test {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// The user
        #[arg(long)]
        openid: String,
    },
}

/// A schedule.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Its name or its id
    pub schedule: String,
    /// The mini-program, where several have a schedule of this name
    #[arg(long)]
    pub appid: Option<String>,
}

/// `wxnotify schedule next`
#[derive(Debug, Clone, Args)]
pub struct NextArgs {
    /// Its name or its id
    #[arg(required_unless_present = "cron", conflicts_with = "cron")]
    pub schedule: Option<String>,
    /// The mini-program, where several have a schedule of this name
    #[arg(long, requires = "schedule")]
    pub appid: Option<String>,
    /// Instead of a schedule a cron text: minute hour day month weekday, or six fields with seconds first
    #[arg(long)]
    pub cron: Option<String>,
    /// IANA name of the zone of its times
    #[arg(
        long,
        requires = "cron",
        default_value = "Asia/Shanghai",
        value_name = "ZONE"
    )]
    pub time_zone: String,
    /// After this wall time of the zone, such as 2026-12-01T09:00, or instant, such as 2026-12-01T01:00:00Z [default: now]
    #[arg(long, requires = "cron", value_name = "TIME")]
    pub from: Option<String>,
    /// How many
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
}

/// The answer to what needs no database; `None`: it needs one.
pub(super) fn answer_alone(command: &ScheduleCommand) -> Option<anyhow::Result<Report>> {
    let ScheduleCommand::Next(args) = command else {
        return None;
    };
    let cron = args.cron.as_deref()?;
    Some(compute_next(cron, args))
}

pub(super) async fn run(command: ScheduleCommand, store: &Store) -> anyhow::Result<Report> {
    if let Some(answer) = answer_alone(&command) {
        return answer;
    }
    match command {
        ScheduleCommand::List { appid, limit } => list(store, appid.as_deref(), limit).await,
        ScheduleCommand::Show(which) => show(store, &which).await,
        ScheduleCommand::Next(NextArgs {
            schedule,
            appid,
            count,
            ..
        }) => {
            let schedule = schedule.expect("clap asks for it where there is no cron text");
            let schedule = find(store, &Which { schedule, appid }).await?;
            let fires = store.next_fires(schedule.id, count.into()).await?;
            let mut report = Report::new(json!({ "schedule": schedule, "times": fires }));
            show_next(&mut report, &schedule, &fires);
            Ok(report)
        }
        ScheduleCommand::Pause { which, options } => pause(store, &which, options).await,
        ScheduleCommand::Resume { which, options } => resume(store, &which, options).await,
        ScheduleCommand::Skip { which, options } => skip(store, &which, options).await,
        ScheduleCommand::Add(args) => add(store, &args).await,
        ScheduleCommand::Remove { which, dry_run } => remove(store, &which, dry_run).await,
        ScheduleCommand::Approve { which, options } => approve(store, &which, options).await,
        ScheduleCommand::Test { which, openid } => {
            let schedule = find(store, &which).await?;
            let id = store.test_fire(schedule.id, &openid, &audit(None)).await?;
            let mut report =
                Report::new(json!({ "action": "test_fire", "schedule_id": schedule.id, "id": id }));
            report
                .line(said(
                    format!(
                        "Notification {id} is the message of schedule {}.",
                        schedule.id
                    ),
                    format!("通知 {id} 是提醒 {} 的消息。", schedule.id),
                ))
                .next(format!("`wxnotify explain {id}`"));
            Ok(report)
        }
    }
}

/// The times of a cron text, by this program alone.
fn compute_next(cron: &str, args: &NextArgs) -> anyhow::Result<Report> {
    let calendar = Calendar::parse_cron(cron, &args.time_zone).map_err(|bad| {
        OperateError::usage(bad.to_string(), "write it otherwise, then try again")
    })?;
    let from = match &args.from {
        None => Utc::now(),
        Some(text) => parse_from(text, &calendar)?,
    };
    let fires: Vec<FireTime> = calendar.fires_after(from).take(args.count.into()).collect();
    let times: Vec<_> = fires
        .iter()
        .map(|fire| {
            json!({ "local_at": fire.local_at, "fold": fire.fold, "fire_at": fire.fire_at, "remark": remark(&calendar, fire) })
        })
        .collect();
    let mut report = Report::new(json!({
        "cron": cron, "time_zone": args.time_zone, "zone_data": ZONE_DATA, "from": from, "times": times,
    }));
    let mut table = Table::new(&["local", "day", "UTC", "remark"]);
    for fire in &fires {
        table.row(vec![
            cell(fire.local_at.format("%Y-%m-%d %H:%M:%S")),
            cell(fire.local_at.format("%a")),
            in_utc(fire.fire_at),
            optional(remark_in_words(&calendar, fire)),
        ]);
    }
    report
        .line(said(
            format!("{cron} in {} (zone data {ZONE_DATA})", args.time_zone),
            format!("{cron}，{}（时区数据 {ZONE_DATA}）", args.time_zone),
        ))
        .table(table);
    if fires.len() < args.count.into() {
        report.line("Nothing more comes within 41 years.").in_part();
    }
    Ok(report)
}

/// A moment in UTC, whoever reads.
pub(super) fn in_utc(at: DateTime<Utc>) -> (String, Tone) {
    cell(at.format("%Y-%m-%d %H:%M:%SZ"))
}

/// As [`remark`], in the reader's language.
fn remark_in_words(calendar: &Calendar, fire: &FireTime) -> Option<String> {
    let english = remark(calendar, fire)?;
    let shown = local_at(calendar.zone(), fire.fire_at).format("%H:%M");
    Some(said(
        english,
        if fire.fold == 1 {
            format!("第二次 {shown}，时钟被拨回")
        } else {
            format!("时钟跳过 {}，此时为 {shown}", fire.local_at.format("%H:%M"))
        },
    ))
}

/// What is unlike other days.
fn remark(calendar: &Calendar, fire: &FireTime) -> Option<String> {
    let shown = local_at(calendar.zone(), fire.fire_at);
    if shown != fire.local_at {
        return Some(format!(
            "the clocks leap over {}, it is {} then",
            fire.local_at.format("%H:%M"),
            shown.format("%H:%M")
        ));
    }
    (fire.fold == 1).then(|| {
        format!(
            "{} for the second time, the clocks were put back",
            shown.format("%H:%M")
        )
    })
}

/// An instant, or a wall time of the calendar's zone.
fn parse_from(text: &str, calendar: &Calendar) -> anyhow::Result<DateTime<Utc>> {
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_utc());
    }
    let formats = [
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ];
    formats
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .and_then(|wall| first_instant_of(calendar.zone(), wall))
        .ok_or_else(|| {
            OperateError::usage(
                format!("--from {text:?} is no time"),
                "write a wall time of the zone, such as 2026-12-01T09:00, or an instant, such as 2026-12-01T01:00:00Z",
            )
            .into()
        })
}

/// The one schedule that is meant.
async fn find(store: &Store, which: &Which) -> anyhow::Result<Schedule> {
    let appid = which.appid.as_deref();
    let name = which.schedule.as_str();
    let mut found = store.list_schedules(appid, None, Some(name), 10).await?;
    if found.is_empty()
        && let Ok(id) = name.parse()
    {
        found = store.list_schedules(appid, Some(id), None, 1).await?;
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(OperateError::new(
            Exit::InPart,
            format!("there is no schedule {name:?}"),
            "`wxnotify schedule list`",
        )
        .into()),
        several => {
            let ids: Vec<String> = found
                .iter()
                .map(|schedule| {
                    format!(
                        "{} ({}, of {})",
                        schedule.id, schedule.appid, schedule.producer
                    )
                })
                .collect();
            Err(OperateError::usage(
                format!(
                    "{several} schedules are called {name:?}: {}",
                    ids.join(", ")
                ),
                "give the id of the one you mean",
            )
            .into())
        }
    }
}

async fn list(store: &Store, appid: Option<&str>, limit: u16) -> anyhow::Result<Report> {
    let schedules = store
        .list_schedules(appid, None, None, limit.into())
        .await?;
    let mut report = Report::new(json!({ "schedules": schedules }));
    if schedules.is_empty() {
        report
            .line("There are no schedules.")
            .next("INSERT one into reminder_schedules, see docs/reminders.md");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "id#", "appid", "name", "state", "when", "zone", "to", "next", "last",
    ]);
    for schedule in &schedules {
        table.row(vec![
            cell(schedule.id),
            cell(&schedule.appid),
            cell(&schedule.name),
            (schedule.state.clone(), tone_of(&schedule.state)),
            cell(&schedule.calendar),
            cell(&schedule.time_zone),
            cell(&schedule.audience),
            optional(schedule.next_local_at.map(minute)),
            optional(schedule.last_local_at.map(|last| {
                format!(
                    "{} {}",
                    minute(last),
                    schedule.last_state.as_deref().unwrap_or_default()
                )
            })),
        ]);
    }
    report.table(table);
    for schedule in schedules
        .iter()
        .filter(|schedule| schedule.state == "invalid")
        .take(5)
    {
        let problem = schedule.problem.as_deref().unwrap_or_default();
        report.next(said(
            format!("schedule {} never fires: {problem}", schedule.id),
            format!("提醒 {} 永远不会触发：{problem}", schedule.id),
        ));
    }
    if schedules.len() == usize::from(limit) {
        report
            .line(said(
                format!("These are the first {limit}; --limit shows more."),
                format!("以上为前 {limit} 条；--limit 可显示更多。"),
            ))
            .in_part();
    }
    Ok(report)
}

async fn show(store: &Store, which: &Which) -> anyhow::Result<Report> {
    let schedule = find(store, which).await?;
    let fires = store.next_fires(schedule.id, SHOWN_NEXT).await?;
    let outcomes = store.fire_outcomes(&[schedule.id], SHOWN_LAST).await?;
    let mut report =
        Report::new(json!({ "schedule": schedule, "times": fires, "outcomes": outcomes }));
    report.toned_line(
        said(
            format!(
                "{}  {} of app {}: {}",
                schedule.id, schedule.name, schedule.appid, schedule.state
            ),
            format!(
                "{}  {}（小程序 {}）：{}",
                schedule.id, schedule.name, schedule.appid, schedule.state
            ),
        ),
        tone_of(&schedule.state),
    );
    if let Some(problem) = &schedule.problem {
        report.line(problem);
    }
    let (calendar, zone) = (&schedule.calendar, &schedule.time_zone);
    let (template, audience) = (&schedule.template_id, &schedule.audience);
    report.line(said(
        format!("{calendar} in {zone}, template {template} to {audience}"),
        format!("{calendar}，{zone}，模板 {template}，发给 {audience}"),
    ));
    if let Some(check) = &schedule.still_true {
        report.line(said(
            format!("asked before each send: {check}"),
            format!("发送前核实：{check}"),
        ));
    }
    show_next(&mut report, &schedule, &fires);
    if !outcomes.is_empty() {
        report.heading("Last times").table(outcome_table(&outcomes));
    }
    Ok(report)
}

fn show_next(report: &mut Report, schedule: &Schedule, fires: &[NextFire]) {
    report.heading("Next times");
    if fires.is_empty() {
        report.line(match schedule.state.as_str() {
            "active" => "None within the days that are computed ahead.",
            _ => "None.",
        });
        return;
    }
    let mut table = Table::new(&["local", "UTC", "remark"]);
    for fire in fires {
        let remark = fire.skipped.as_ref().map(|reason| {
            let reason = fire_reason(reader(), reason);
            said(
                format!("will be skipped: {reason}"),
                format!("将跳过：{reason}"),
            )
        });
        table.row(vec![
            cell(fire.local_at.format("%Y-%m-%d %H:%M:%S")),
            in_utc(fire.fire_at),
            optional(remark),
        ]);
    }
    report.table(table);
}

fn outcome_table(outcomes: &[FireOutcome]) -> Table {
    let mut table = Table::new(&[
        "local",
        "state",
        "users#",
        "open#",
        "sent#",
        "in doubt#",
        "no credit#",
        "refused#",
        "not true#",
        "expired#",
        "dead#",
        "cancelled#",
        "reason",
    ]);
    for outcome in outcomes {
        let times = if outcome.times > 1 {
            format!(" and {} more", outcome.times - 1)
        } else {
            String::new()
        };
        table.row(vec![
            cell(format!("{}{times}", minute(outcome.local_at))),
            (outcome.state.clone(), tone_of(&outcome.state)),
            cell(outcome.audience),
            cell(outcome.open),
            cell(outcome.sent),
            cell(outcome.in_doubt),
            cell(outcome.no_credit),
            cell(outcome.refused),
            cell(outcome.not_true),
            cell(outcome.expired),
            cell(outcome.dead),
            cell(outcome.cancelled),
            optional(
                outcome
                    .reason
                    .as_ref()
                    .map(|reason| fire_reason(reader(), reason)),
            ),
        ]);
    }
    table
}

async fn pause(store: &Store, which: &Which, options: PlainChange) -> anyhow::Result<Report> {
    let schedule = find(store, which).await?;
    let changed = if options.dry_run {
        schedule.paused_at.is_none()
    } else {
        store
            .pause_schedule(schedule.id, &audit(options.note))
            .await?
    };
    let words = if changed {
        said(
            "no more fires; rows that were made wait, and still expire",
            "不再触发；已生成的行等待，仍会过期",
        )
    } else {
        said("paused already", "已处于暂停")
    };
    Ok(change_report(
        "pause_schedule",
        &schedule,
        options.dry_run,
        changed,
        &words,
    ))
}

async fn resume(store: &Store, which: &Which, options: PlainChange) -> anyhow::Result<Report> {
    let schedule = find(store, which).await?;
    let changed = if options.dry_run {
        schedule.paused_at.is_some()
    } else {
        store
            .resume_schedule(schedule.id, &audit(options.note))
            .await?
    };
    let words = if changed {
        said(
            "fires again; its column missed says what becomes of times that passed",
            "恢复触发；错过的时刻按其 missed 列处理",
        )
    } else {
        said("was not paused", "并未暂停")
    };
    Ok(change_report(
        "resume_schedule",
        &schedule,
        options.dry_run,
        changed,
        &words,
    ))
}

async fn skip(store: &Store, which: &Which, options: PlainChange) -> anyhow::Result<Report> {
    let schedule = find(store, which).await?;
    let skipped = if options.dry_run {
        let fires = store.next_fires(schedule.id, 64).await?;
        fires
            .into_iter()
            .find(|fire| fire.skipped.is_none())
            .map(|fire| fire.local_at)
    } else {
        store.skip_next(schedule.id, &audit(options.note)).await?
    };
    let words = match skipped {
        Some(local_at) => {
            let (time, zone) = (minute(local_at), &schedule.time_zone);
            said(
                format!("{time} in {zone} is left out"),
                format!("跳过 {zone} 的 {time}"),
            )
        }
        None => said(
            "no time is known that could be left out",
            "没有可以跳过的时刻",
        ),
    };
    Ok(change_report(
        "skip_next",
        &schedule,
        options.dry_run,
        skipped.is_some(),
        &words,
    ))
}

/// By the login whose it is, which may not read what operators do.
async fn remove(store: &Store, which: &Which, dry_run: bool) -> anyhow::Result<Report> {
    let name = which.schedule.as_str();
    let found = match store.find_own_schedules(which.appid.as_deref(), name).await {
        Err(refused) if refused.sqlstate().as_deref() == Some("42501") => Vec::new(),
        found => found?,
    };
    let [(id, _, name, _)] = found.as_slice() else {
        let ids: Vec<String> = found
            .iter()
            .map(|(id, appid, _, producer)| format!("{id} ({appid}, of {producer})"))
            .collect();
        return Err(if ids.is_empty() {
            OperateError::new(
                Exit::InPart,
                format!("this login has no schedule {name:?}"),
                "connect as the login that added it; an operator stops it with `wxnotify schedule pause`",
            )
        } else {
            OperateError::usage(
                format!("{} schedules are called {name:?}: {}", ids.len(), ids.join(", ")),
                "give the id of the one you mean",
            )
        }
        .into());
    };
    let removed = dry_run || store.remove_schedule(*id).await?;
    let mut report = Report::new(json!({
        "action": "remove_schedule", "dry_run": dry_run, "schedule_id": id, "name": name, "changed": removed,
    }));
    let (would, would_zh) = if dry_run {
        ("would be", "将")
    } else {
        ("is", "已")
    };
    report.line(said(
        format!("Schedule {id} ({name}) {would} deleted; rows that were made and not sent are cancelled."),
        format!("提醒 {id}（{name}）{would_zh}删除；已生成而未发送的行会被取消。"),
    ));
    if !removed {
        report.in_part();
    }
    Ok(report)
}

async fn approve(store: &Store, which: &Which, options: PlainChange) -> anyhow::Result<Report> {
    let schedule = find(store, which).await?;
    let changed = if options.dry_run {
        !schedule.approved
    } else {
        let audit = audit(options.note);
        store.approve_schedule(schedule.id, &audit).await?
    };
    let words = if changed {
        said(
            "approved as it is now; an edit takes the approval away",
            "已批准现状；修改后需要重新批准",
        )
    } else {
        said("was approved already", "已经批准过")
    };
    Ok(change_report(
        "approve_schedule",
        &schedule,
        options.dry_run,
        changed,
        &words,
    ))
}

fn change_report(
    action: &str,
    schedule: &Schedule,
    dry_run: bool,
    changed: bool,
    words: &str,
) -> Report {
    let mut report = Report::new(json!({
        "action": action, "dry_run": dry_run, "schedule_id": schedule.id, "name": schedule.name, "changed": changed, "words": words,
    }));
    let (would, would_zh) = if dry_run {
        ("Would be: ", "将会：")
    } else {
        ("", "")
    };
    let (id, name) = (schedule.id, &schedule.name);
    report.line(said(
        format!("{would}Schedule {id} ({name}): {words}."),
        format!("{would_zh}提醒 {id}（{name}）：{words}。"),
    ));
    if !changed {
        report.in_part();
    }
    report
}

fn tone_of(state: &str) -> Tone {
    match state {
        "active" | "done" => Tone::Good,
        "paused" | "skipped" | "cancelled" => Tone::Warning,
        "invalid" => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn minute(wall: NaiveDateTime) -> String {
    let seconds = wall.and_utc().timestamp() % 60;
    let format = if TimeDelta::seconds(seconds).is_zero() {
        "%Y-%m-%d %H:%M"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    wall.format(format).to_string()
}
