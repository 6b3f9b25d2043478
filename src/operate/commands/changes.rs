//! The commands that change notifications: `cancel`, `reschedule`, `redrive` and the verdicts on doubts, in words.
//!
//! Start at [`cancel`]; the others go the same way.

use std::io::IsTerminal;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::looks::{self, DoubtListArgs};
use super::paced::{self, Pace, Work, parse_pace};
use super::selection::{ChangeArgs, parse_time, tally};
use super::{OperateError, audit, explain_store_error};
use crate::operate::report::{Report, Table, Tone, cell, optional};
use crate::operate::verbs::{self, Applied, Preview, Verb, VerbError, Verdict};
use crate::operate::words::said;
use crate::store::Store;
use crate::store::batches::BATCH_ROWS_MAX;
use crate::store::verbs::{BATCH_ROWS, Filter, FoundNotification, VerbResult};

/// How many rows a report lists for people; `--json` lists all.
const ROWS_SHOWN: usize = 20;

/// Commands on notifications in doubt.
#[derive(Debug, Subcommand)]
pub enum DoubtCommand {
    /// List them, oldest doubt first
    List(DoubtListArgs),
    /// The users received them: end them as sent
    ConfirmSent(ChangeArgs),
    /// The users did not receive them: send them
    ConfirmNotSent(ChangeArgs),
    /// Send them now, although the users may receive them twice
    RetryAnyway(ChangeArgs),
}

/// `wxnotify cancel`
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Which ones, and how carefully.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Also end those in doubt, as unresolved (they may have been received)
    #[arg(long, conflicts_with = "pace")]
    pub doubts: bool,
    /// As a batch, at most so many rows a minute, such as 600/min or 10/s; Ctrl-C stops it
    #[arg(long, value_parser = parse_pace)]
    pub pace: Option<Pace>,
}

/// `wxnotify reschedule`
#[derive(Debug, Args)]
pub struct RescheduleArgs {
    /// Which ones, and how carefully.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Not before: a time with its zone, `now`, or a span from now such as +2h
    #[arg(long, value_parser = parse_time)]
    pub send_at: DateTime<Utc>,
    /// Not after; without it as it is
    #[arg(long, value_parser = parse_time)]
    pub expire_at: Option<DateTime<Utc>>,
}

/// `wxnotify redrive`
#[derive(Debug, Args)]
#[command(
    after_help = "Each becomes a new row with an id of its own; the old one stays in the history and is not redriven twice. \
A one_time message whose credit is gone meets 43101 again. An unresolved one may be received twice. \
An expire_at that has passed is dropped unless --expire-at gives another."
)]
pub struct RedriveArgs {
    /// Which ones, and how carefully.
    #[command(flatten)]
    pub change: ChangeArgs,
    /// Of these final statuses (repeatable); dead unless --id is given
    #[arg(long = "status", value_enum)]
    pub statuses: Vec<Redrivable>,
    /// As a batch, at most so many rows a minute, such as 600/min or 10/s; Ctrl-C stops it, and `wxnotify batch undo` takes it back
    #[arg(long, value_parser = parse_pace, conflicts_with_all = ["send_at", "expire_at"])]
    pub pace: Option<Pace>,
    /// Not before; now unless given
    #[arg(long, value_parser = parse_time)]
    pub send_at: Option<DateTime<Utc>>,
    /// Not after
    #[arg(long, value_parser = parse_time)]
    pub expire_at: Option<DateTime<Utc>>,
}

/// Final statuses from which a notification can be sent anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Redrivable {
    /// Refused, or attempts used up.
    Dead,
    /// May have arrived; no evidence came.
    Unresolved,
    /// Not sent before `expire_at`.
    Expired,
    /// Cancelled by its producer or an operator.
    Cancelled,
}

impl Redrivable {
    fn status(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Unresolved => "unresolved",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

pub(super) async fn cancel(args: CancelArgs, store: &Store) -> anyhow::Result<Report> {
    if let Some(pace) = args.pace {
        return change_at_pace(store, "cancel", args.change, None, pace).await;
    }
    let verb = Verb::Cancel {
        doubts: args.doubts,
    };
    change(store, args.change, verb, None).await
}

pub(super) async fn reschedule(args: RescheduleArgs, store: &Store) -> anyhow::Result<Report> {
    let verb = Verb::Reschedule {
        send_at: args.send_at,
        expire_at: args.expire_at,
    };
    change(store, args.change, verb, None).await
}

pub(super) async fn redrive(args: RedriveArgs, store: &Store) -> anyhow::Result<Report> {
    let verb = Verb::Redrive {
        send_at: args.send_at,
        expire_at: args.expire_at,
    };
    let statuses = args.statuses.iter().map(|status| status.status());
    let statuses: Vec<String> = statuses.map(str::to_owned).collect();
    let statuses = (!statuses.is_empty()).then_some(statuses);
    if let Some(pace) = args.pace {
        return change_at_pace(store, "redrive", args.change, statuses, pace).await;
    }
    change(store, args.change, verb, statuses).await
}

/// The same as a batch.
async fn change_at_pace(
    store: &Store,
    verb: &str,
    args: ChangeArgs,
    statuses: Option<Vec<String>>,
    pace: Pace,
) -> anyhow::Result<Report> {
    let filter = Filter {
        statuses,
        ..args.selection.to_filter()
    };
    if filter.is_empty() {
        let verb = match verb {
            "cancel" => Verb::Cancel { doubts: false },
            _ => Verb::Redrive {
                send_at: None,
                expire_at: None,
            },
        };
        return Err(explain_failure(&verb, VerbError::NothingSelected));
    }
    let work = Work {
        verb,
        filter: serde_json::to_value(filter)?,
        rows_max: i32::try_from(args.limit).unwrap_or(BATCH_ROWS_MAX),
        pace: Some(pace),
        dry_run: args.dry_run,
    };
    paced::change(store, work, &audit(args.note)).await
}

pub(super) async fn run_doubt(command: DoubtCommand, store: &Store) -> anyhow::Result<Report> {
    let (verdict, args) = match command {
        DoubtCommand::List(args) => return looks::doubt_list(args, store).await,
        DoubtCommand::ConfirmSent(args) => (Verdict::Sent, args),
        DoubtCommand::ConfirmNotSent(args) => (Verdict::NotSent, args),
        DoubtCommand::RetryAnyway(args) => (Verdict::Retry, args),
    };
    change(store, args, Verb::EndDoubts(verdict), None).await
}

/// Chooses the rows, then tries or makes the change.
async fn change(
    store: &Store,
    args: ChangeArgs,
    verb: Verb,
    statuses: Option<Vec<String>>,
) -> anyhow::Result<Report> {
    let filter = Filter {
        statuses,
        ..args.selection.to_filter()
    };
    let failed = |error| explain_failure(&verb, error);
    let selection = verbs::select(store, &verb, filter, args.limit as usize)
        .await
        .map_err(failed)?;
    if args.dry_run {
        let preview = verbs::preview(store, &verb, &selection)
            .await
            .map_err(failed)?;
        return Ok(dry_run_report(&verb, &preview, selection.more, &args));
    }
    let chosen = selection.ids.len();
    let shows_progress = chosen > BATCH_ROWS && std::io::stderr().is_terminal();
    let say_progress = |done| {
        if shows_progress {
            eprintln!("{}: {done} of {chosen}", verb.action());
        }
    };
    let audit = audit(args.note.clone());
    let applied = verbs::apply(store, &verb, &selection, &audit, say_progress)
        .await
        .map_err(failed)?;
    Ok(change_report(&verb, &applied, selection.more, &args))
}

/// What a person is told of a verb that was not done, or not to the end.
fn explain_failure(verb: &Verb, error: VerbError) -> anyhow::Error {
    let action = verb.action();
    match error {
        VerbError::NothingSelected => OperateError::usage(
            format!("{action}: {error}; nothing was changed"),
            "name notifications with --id, --errcode, --template, --business-ref or --appid; try it with --dry-run first",
        )
        .into(),
        VerbError::EndsBeforeItBegins => OperateError::usage(
            format!("{action}: --expire-at is not after --send-at, so nothing would be sent; nothing was changed"),
            "give a later --expire-at",
        )
        .into(),
        VerbError::Store(source) => source.into(),
        VerbError::Stopped {
            changed,
            chosen,
            source,
        } => {
            let done = format!(
                "{action}: {changed} of {chosen} notifications were changed, and stay so; the command goes on with the others when it is run again. Then this failed:"
            );
            let failed = explain_store_error(&source);
            OperateError {
                message: format!("{done} {}", failed.message),
                ..failed
            }
            .into()
        }
    }
}

fn dry_run_report(verb: &Verb, preview: &Preview, more: bool, args: &ChangeArgs) -> Report {
    let (found, would) = (&preview.rows, preview.would_change);
    let mut report = Report::new(json!({
        "action": verb.action(), "dry_run": true, "matched": found.len(), "more": more, "would_change": would,
        "by_status": tally(found.iter().map(|row| row.status.as_str())), "rows": found,
    }));
    let (action, all) = (verb.action(), found.len());
    report.line(said(
        format!(
            "{action}: would change {would} of {all} matching notifications; nothing was changed."
        ),
        format!("{action}：符合条件的 {all} 条通知中将改动 {would} 条；没有改动。"),
    ));
    show_found(&mut report, found);
    say_more(&mut report, more, args);
    if would > 0 {
        report.next("the same command without --dry-run");
    }
    report
}

fn show_found(report: &mut Report, found: &[FoundNotification]) {
    if found.is_empty() {
        return;
    }
    let mut table = Table::new(&[
        "id#",
        "appid",
        "status",
        "template",
        "business ref",
        "errcode#",
        "why",
    ]);
    for row in found.iter().take(ROWS_SHOWN) {
        table.row(vec![
            cell(row.id),
            cell(&row.appid),
            (row.status.clone(), Tone::of_status(&row.status)),
            cell(&row.template_id),
            optional(row.business_ref.as_ref()),
            optional(row.errcode),
            optional(row.reason.as_ref()),
        ]);
    }
    report.table(table);
    if found.len() > ROWS_SHOWN {
        report.line(said(
            format!("… and {} more", found.len() - ROWS_SHOWN),
            format!("……另有 {} 条", found.len() - ROWS_SHOWN),
        ));
    }
}

fn change_report(verb: &Verb, applied: &Applied, more: bool, args: &ChangeArgs) -> Report {
    let Applied { results, changed } = applied;
    let counts = tally(results.iter().map(|row| row.result.as_str()));
    let mut report = Report::new(json!({
        "action": verb.action(), "dry_run": false, "matched": results.len(), "more": more, "changed": changed,
        "results": counts, "rows": results,
    }));
    let (action, all) = (verb.action(), results.len());
    report.line(said(
        format!("{action}: changed {changed} of {all} notifications."),
        format!("{action}：{all} 条通知中已改动 {changed} 条。"),
    ));
    show_results(&mut report, verb, results);
    say_more(&mut report, more, args);
    for (result, advice) in LEFT_ROWS {
        if counts.contains_key(*result) {
            report.next(format!("{result}: {advice}"));
        }
    }
    if *changed < results.len() || more || results.is_empty() {
        report.in_part();
    }
    report
}

/// What was left comes first: it is what the reader must know.
fn show_results(report: &mut Report, verb: &Verb, results: &[VerbResult]) {
    if results.is_empty() {
        return;
    }
    let mut table = Table::new(&["id#", "result", "new id#"]);
    let (done, left): (Vec<_>, Vec<_>) = results.iter().partition(|row| verb.changed(&row.result));
    for row in left.iter().chain(&done).take(ROWS_SHOWN) {
        let tone = if verb.changed(&row.result) {
            Tone::Good
        } else {
            Tone::Warning
        };
        table.row(vec![
            cell(row.id),
            (row.result.clone(), tone),
            optional(row.new_id),
        ]);
    }
    report.table(table);
    if results.len() > ROWS_SHOWN {
        let more = results.len() - ROWS_SHOWN;
        report.line(said(
            format!("… and {more} more (--json lists all)"),
            format!("……另有 {more} 条（--json 列出全部）"),
        ));
    }
}

/// What to do about rows that were left, or changed in vain.
const LEFT_ROWS: &[(&str, &str)] = &[
    (
        "in flight",
        "its send cannot be called back; look again in a moment with `wxnotify explain ID`",
    ),
    (
        "busy",
        "somebody holds the row at this moment; run the command again",
    ),
    (
        "kept by the database",
        "a foreign key, trigger or rule that is not wxnotify's refuses its move to the history; `wxnotify doctor` names it",
    ),
    (
        "in doubt",
        "it may have been received; `wxnotify doubt list`, or cancel with --doubts",
    ),
    (
        "not in doubt",
        "only notifications in doubt take a verdict; `wxnotify explain ID`",
    ),
    (
        "redriven, but its credit was gone",
        "it meets 43101 again unless the user gave a new credit: collect one in the mini-program",
    ),
    (
        "already redriven",
        "each is redriven once; redrive the new id if that one died too",
    ),
    ("expires before send_at", "give a later --expire-at"),
    (
        "no match",
        "no notification of that id fits; `wxnotify explain ID` tells what it is",
    ),
];

fn say_more(report: &mut Report, more: bool, args: &ChangeArgs) {
    if more {
        report.toned_line(
            said(
                format!(
                    "More than {} match: --limit stopped at {}.",
                    args.limit, args.limit
                ),
                format!(
                    "符合条件的超过 {} 条：按 --limit 只处理 {} 条。",
                    args.limit, args.limit
                ),
            ),
            Tone::Warning,
        );
        report.next("run the command again for the next ones, or raise --limit");
    }
}
