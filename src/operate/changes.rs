//! The commands that change notifications: `cancel`, `reschedule`, `redrive` and the verdicts on doubts.
//!
//! Each finds at most `--limit` rows, says what they are on `--dry-run`, else changes them in batches of a transaction
//! each. A row that is in flight or in doubt by then is reported, not waited for.
//!
//! Start at [`cancel`]; the others go the same way.

use std::io::IsTerminal;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::looks::{self, DoubtListArgs};
use super::report::{Report, Table, Tone, cell, optional};
use super::selection::{ChangeArgs, parse_time, tally};
use super::{OperateError, audit, with_next_step};
use crate::store::Store;
use crate::store::operators::{Audit, BATCH_ROWS, Filter, FoundNotification, VerbResult};

/// Statuses that are not final.
const PENDING: [&str; 7] = [
    "held",
    "scheduled",
    "due",
    "sending",
    "retrying",
    "in_doubt",
    "paused",
];

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
    #[arg(long)]
    pub doubts: bool,
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

/// What is done to each batch.
enum Verb {
    Cancel {
        doubts: bool,
    },
    Reschedule {
        send_at: DateTime<Utc>,
        expire_at: Option<DateTime<Utc>>,
    },
    Redrive {
        send_at: Option<DateTime<Utc>>,
        expire_at: Option<DateTime<Utc>>,
    },
    EndDoubts {
        verdict: &'static str,
    },
}

impl Verb {
    /// As in `operator_actions.action`.
    fn action(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "cancel",
            Self::Reschedule { .. } => "reschedule",
            Self::Redrive { .. } => "redrive",
            Self::EndDoubts { verdict: "sent" } => "confirm_sent",
            Self::EndDoubts {
                verdict: "not_sent",
            } => "confirm_not_sent",
            Self::EndDoubts { .. } => "retry_anyway",
        }
    }

    /// Whether a row's result says that the verb changed it.
    fn changed(&self, result: &str) -> bool {
        match self {
            Self::Cancel { doubts } => result == "cancelled" || (*doubts && result == "unresolved"),
            Self::Reschedule { .. } => result == "rescheduled",
            Self::Redrive { .. } => result.starts_with("redriven"),
            Self::EndDoubts { .. } => {
                matches!(
                    result,
                    "confirmed sent" | "confirmed not sent" | "sent again"
                )
            }
        }
    }

    /// Whether a row of this status will be changed, as far as can be told before.
    fn would_change(&self, status: &str) -> bool {
        match self {
            Self::Cancel { doubts } => {
                PENDING.contains(&status)
                    && status != "sending"
                    && (*doubts || status != "in_doubt")
            }
            Self::Reschedule { .. } => {
                PENDING.contains(&status) && !matches!(status, "sending" | "in_doubt")
            }
            Self::Redrive { .. } => {
                matches!(status, "dead" | "unresolved" | "expired" | "cancelled")
            }
            Self::EndDoubts { .. } => status == "in_doubt",
        }
    }

    async fn apply(
        &self,
        store: &Store,
        ids: &[i64],
        filter: &Value,
        audit: &Audit,
    ) -> anyhow::Result<Vec<VerbResult>> {
        let results = match self {
            Self::Cancel { doubts } => {
                store
                    .cancel_notifications(ids, *doubts, filter, audit)
                    .await
            }
            Self::Reschedule { send_at, expire_at } => {
                store
                    .reschedule_notifications(ids, Some(*send_at), *expire_at, filter, audit)
                    .await
            }
            Self::Redrive { send_at, expire_at } => {
                store
                    .redrive_notifications(ids, *send_at, *expire_at, filter, audit)
                    .await
            }
            Self::EndDoubts { verdict } => store.end_doubts(ids, verdict, filter, audit).await,
        };
        Ok(results?)
    }
}

pub(super) async fn cancel(args: CancelArgs, store: &Store) -> anyhow::Result<Report> {
    let verb = Verb::Cancel {
        doubts: args.doubts,
    };
    change(store, args.change, verb, &PENDING).await
}

pub(super) async fn reschedule(args: RescheduleArgs, store: &Store) -> anyhow::Result<Report> {
    if args.expire_at.is_some_and(|end| end <= args.send_at) {
        return Err(OperateError::usage(
            "reschedule: --expire-at is not after --send-at, so nothing would be sent; nothing was changed",
            "give a later --expire-at",
        )
        .into());
    }
    let verb = Verb::Reschedule {
        send_at: args.send_at,
        expire_at: args.expire_at,
    };
    change(store, args.change, verb, &PENDING).await
}

pub(super) async fn redrive(args: RedriveArgs, store: &Store) -> anyhow::Result<Report> {
    let verb = Verb::Redrive {
        send_at: args.send_at,
        expire_at: args.expire_at,
    };
    let statuses: Vec<&str> = match (&args.statuses[..], &args.change.selection.ids[..]) {
        ([], []) => vec!["dead"],
        ([], _) => vec!["dead", "unresolved", "expired", "cancelled"],
        (statuses, _) => statuses.iter().map(|status| status.status()).collect(),
    };
    change(store, args.change, verb, &statuses).await
}

pub(super) async fn run_doubt(command: DoubtCommand, store: &Store) -> anyhow::Result<Report> {
    let (verdict, args) = match command {
        DoubtCommand::List(args) => return looks::doubt_list(args, store).await,
        DoubtCommand::ConfirmSent(args) => ("sent", args),
        DoubtCommand::ConfirmNotSent(args) => ("not_sent", args),
        DoubtCommand::RetryAnyway(args) => ("retry", args),
    };
    let verb = Verb::EndDoubts { verdict };
    change(store, args, verb, &["in_doubt"]).await
}

/// Finds the rows, then tries or makes the change.
async fn change(
    store: &Store,
    args: ChangeArgs,
    verb: Verb,
    statuses: &[&str],
) -> anyhow::Result<Report> {
    args.check(verb.action())?;
    let statuses = statuses.iter().map(ToString::to_string).collect();
    // Rows named by id are all looked at, so that each gets an answer.
    let by_id = !args.selection.ids.is_empty();
    let redrive = matches!(verb, Verb::Redrive { .. });
    let filter = args
        .selection
        .to_filter((!by_id || redrive).then_some(statuses));
    let rows_max = args.rows_max();
    let mut found = Vec::new();
    let mut ids = if redrive || by_id {
        found = match redrive {
            true => store.find_redrivable(&filter, rows_max + 1).await?,
            false => store.find_notifications(&filter, rows_max + 1).await?,
        };
        found.iter().map(|row| row.id).collect()
    } else {
        store.find_ids(&filter, rows_max + 1).await?
    };
    let more = ids.len() > rows_max;
    ids.truncate(rows_max);
    found.truncate(rows_max);
    if args.dry_run {
        if !(redrive || by_id) {
            found = look_at(store, &ids, &filter).await?;
        }
        return Ok(dry_run_report(&verb, &found, more, &args));
    }
    let mut results = change_all(store, &verb, &ids, &filter, args.note.clone()).await?;
    for id in args.selection.ids.iter().filter(|id| !ids.contains(id)) {
        results.push(VerbResult {
            id: *id,
            result: "no match".to_owned(),
            new_id: None,
        });
    }
    Ok(change_report(&verb, &results, more, &args))
}

/// What is known of these rows, a batch at a time: to ask for the status of very many at once takes a minute.
async fn look_at(
    store: &Store,
    ids: &[i64],
    filter: &Filter,
) -> anyhow::Result<Vec<FoundNotification>> {
    let mut found = Vec::with_capacity(ids.len());
    for batch in ids.chunks(BATCH_ROWS) {
        let filter = Filter {
            ids: Some(batch.to_vec()),
            ..filter.clone()
        };
        found.extend(store.find_notifications(&filter, batch.len()).await?);
    }
    Ok(found)
}

/// Makes the change in batches, each a transaction of its own: what is done stays done, and is said when a later one fails.
async fn change_all(
    store: &Store,
    verb: &Verb,
    ids: &[i64],
    filter: &Filter,
    note: Option<String>,
) -> anyhow::Result<Vec<VerbResult>> {
    let audit = audit(note);
    let filter = serde_json::to_value(filter)?;
    let mut results: Vec<VerbResult> = Vec::with_capacity(ids.len());
    let shows_progress = ids.len() > BATCH_ROWS && std::io::stderr().is_terminal();
    for batch in ids.chunks(BATCH_ROWS) {
        match verb.apply(store, batch, &filter, &audit).await {
            Ok(changed) => results.extend(changed),
            Err(error) if results.is_empty() => return Err(error),
            Err(error) => {
                let changed = results.iter().filter(|row| verb.changed(&row.result));
                let done = format!(
                    "{}: {} of {} notifications were changed, and stay so; the command goes on with the others when it is run again. Then this failed:",
                    verb.action(),
                    changed.count(),
                    ids.len()
                );
                return Err(match with_next_step(error).downcast::<OperateError>() {
                    Ok(failed) => OperateError {
                        message: format!("{done} {}", failed.message),
                        ..failed
                    }
                    .into(),
                    Err(error) => error.context(done),
                });
            }
        }
        if shows_progress {
            eprintln!("{}: {} of {}", verb.action(), results.len(), ids.len());
        }
    }
    Ok(results)
}

fn dry_run_report(
    verb: &Verb,
    found: &[FoundNotification],
    more: bool,
    args: &ChangeArgs,
) -> Report {
    let would = found
        .iter()
        .filter(|row| verb.would_change(&row.status))
        .count();
    let mut report = Report::new(json!({
        "action": verb.action(), "dry_run": true, "matched": found.len(), "more": more, "would_change": would,
        "by_status": tally(found.iter().map(|row| row.status.as_str())), "rows": found,
    }));
    report.line(format!(
        "{}: would change {would} of {} matching notifications; nothing was changed.",
        verb.action(),
        found.len()
    ));
    if !found.is_empty() {
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
            report.line(format!("… and {} more", found.len() - ROWS_SHOWN));
        }
    }
    say_more(&mut report, more, args);
    if would > 0 {
        report.next("the same command without --dry-run");
    }
    report
}

fn change_report(verb: &Verb, results: &[VerbResult], more: bool, args: &ChangeArgs) -> Report {
    let changed = results
        .iter()
        .filter(|row| verb.changed(&row.result))
        .count();
    let counts = tally(results.iter().map(|row| row.result.as_str()));
    let mut report = Report::new(json!({
        "action": verb.action(), "dry_run": false, "matched": results.len(), "more": more, "changed": changed,
        "results": counts, "rows": results,
    }));
    report.line(format!(
        "{}: changed {changed} of {} notifications.",
        verb.action(),
        results.len()
    ));
    let mut table = Table::new(&["id#", "result", "new id#"]);
    // What was left comes first: it is what the reader must know.
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
    if !results.is_empty() {
        report.table(table);
    }
    if results.len() > ROWS_SHOWN {
        report.line(format!(
            "… and {} more (--json lists all)",
            results.len() - ROWS_SHOWN
        ));
    }
    say_more(&mut report, more, args);
    for (result, advice) in LEFT_ROWS {
        if counts.contains_key(*result) {
            report.next(format!("{result}: {advice}"));
        }
    }
    if !left.is_empty() || more || results.is_empty() {
        report.in_part();
    }
    report
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
            format!(
                "More than {} match: --limit stopped at {}.",
                args.limit, args.limit
            ),
            Tone::Warning,
        );
        report.next("run the command again for the next ones, or raise --limit");
    }
}
