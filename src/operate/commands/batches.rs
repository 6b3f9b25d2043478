//! `wxnotify batch`: verbs over many rows that somebody started in the console.

use clap::{Args, Subcommand};
use serde_json::json;

use super::audit;
use crate::operate::report::{Report, Table, Tone, cell, moment, optional};
use crate::store::Store;
use crate::store::batches::Batch;

/// `wxnotify batch`
#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// The latest ones
    List(ListArgs),
    /// How far one is, and what became of its rows
    Show(ShowArgs),
    /// Leave the rows that are not done yet as they are
    Stop(StopArgs),
}

/// `wxnotify batch list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
    pub limit: i64,
}

/// `wxnotify batch show`
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The batch
    pub id: i64,
}

/// `wxnotify batch stop`
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The batch
    pub id: i64,
    /// Your reason, kept in operator_actions
    #[arg(long)]
    pub note: Option<String>,
}

pub(super) async fn run(command: BatchCommand, store: &Store) -> anyhow::Result<Report> {
    match command {
        BatchCommand::List(args) => list(args, store).await,
        BatchCommand::Show(args) => show(args.id, store).await,
        BatchCommand::Stop(args) => stop(args, store).await,
    }
}

async fn list(args: ListArgs, store: &Store) -> anyhow::Result<Report> {
    let batches = store.list_batches(args.limit).await?;
    let mut report = Report::new(json!({ "batches": batches }));
    if batches.is_empty() {
        report.line("There was no batch. The console makes them: `wxnotify console`.");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "id#",
        "verb",
        "state",
        "done#",
        "refused#",
        "waiting#",
        "a minute#",
        "who",
        "started",
        "why",
    ]);
    for batch in &batches {
        table.row(vec![
            cell(batch.id),
            cell(&batch.verb),
            (batch.state.clone(), tone_of(&batch.state)),
            cell(batch.changed),
            cell(batch.unchanged),
            cell(batch.waiting),
            optional(batch.pace_per_minute),
            cell(&batch.actor),
            moment(batch.started_at),
            optional(batch.note.as_ref()),
        ]);
    }
    report.table(table);
    Ok(report)
}

fn tone_of(state: &str) -> Tone {
    match state {
        "done" => Tone::Good,
        "stopped" => Tone::Warning,
        _ => Tone::Plain,
    }
}

fn not_found(id: i64) -> Report {
    let mut report = Report::new(json!({ "id": id, "found": false }));
    report.in_part().line(format!("No batch has the id {id}."));
    report.next("`wxnotify batch list`");
    report
}

async fn show(id: i64, store: &Store) -> anyhow::Result<Report> {
    let Some(batch) = store.read_batch(id).await? else {
        return Ok(not_found(id));
    };
    let causes = store.batch_causes(id).await?;
    let outcomes = store.batch_outcomes(id).await?;
    let mut report = Report::new(json!({ "batch": batch, "causes": causes, "outcomes": outcomes }));
    report.toned_line(progress(&batch), tone_of(&batch.state));
    if let Some(note) = &batch.note {
        report.line(format!("why: {note}"));
    }
    let mut table = Table::new(&["cause", "result", "rows#", "ids from#", "to#"]);
    for cause in &causes {
        table.row(vec![
            cell(&cause.cause),
            optional(cause.result.as_ref()),
            cell(cause.rows),
            cell(cause.first_id),
            cell(cause.last_id),
        ]);
    }
    report.table(table);
    if !outcomes.is_empty() {
        let mut table = Table::new(&["the new rows are", "rows#"]);
        for outcome in &outcomes {
            table.row(vec![
                (outcome.status.clone(), Tone::of_status(&outcome.status)),
                cell(outcome.rows),
            ]);
        }
        report.heading("What became of them").table(table);
    }
    Ok(report)
}

fn progress(batch: &Batch) -> String {
    format!(
        "batch {} ({} by {}): {}; {} of {} rows done, {} refused since they moved, {} left out",
        batch.id,
        batch.verb,
        batch.actor,
        batch.state,
        batch.changed,
        batch.rows - batch.left_out,
        batch.unchanged,
        batch.left_out
    )
}

async fn stop(args: StopArgs, store: &Store) -> anyhow::Result<Report> {
    if store.read_batch(args.id).await?.is_none() {
        return Ok(not_found(args.id));
    }
    let state = store.stop_batch(args.id, &audit(args.note)).await?;
    let is_stopped = state == "stopped";
    let mut report = Report::new(json!({ "id": args.id, "stopped": is_stopped, "state": state }));
    if is_stopped {
        report.line(format!(
            "Batch {} is stopped: the rest stays as it is.",
            args.id
        ));
    } else {
        report
            .in_part()
            .line(format!("Batch {} was not stopped: it is {state}.", args.id));
    }
    Ok(report)
}
