//! `wxnotify batch`: verbs over many rows, started in the console or with `--pace`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::paced::{self, Pace, Work, parse_pace};
use super::{OperateError, audit};
use crate::operate::report::{Report, Table, Tone, cell, moment, optional};
use crate::operate::words::said;
use crate::store::Store;
use crate::store::batches::{BATCH_ROWS_MAX, Batch};

/// `wxnotify batch`
#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// The latest ones
    List(ListArgs),
    /// How far one is, and what became of its rows
    Show(ShowArgs),
    /// Leave the rows that are not done yet as they are
    Stop(StopArgs),
    /// Go on with a batch whose command ended before it did
    Run(ShowArgs),
    /// Cancel what a redrive made and nobody sent; the old rows can be redriven again
    Undo(UndoArgs),
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

/// `wxnotify batch undo`
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The batch
    pub id: i64,
    /// Only say what would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// At most so many rows a minute, such as 600/min or 10/s
    #[arg(long, value_parser = parse_pace)]
    pub pace: Option<Pace>,
    /// Your reason, kept in operator_actions
    #[arg(long)]
    pub note: Option<String>,
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
        BatchCommand::Run(args) => go_on(args.id, store).await,
        BatchCommand::Undo(args) => undo(args, store).await,
    }
}

async fn list(args: ListArgs, store: &Store) -> anyhow::Result<Report> {
    let batches = store.list_batches(args.limit).await?;
    let mut report = Report::new(json!({ "batches": batches }));
    if batches.is_empty() {
        report.line("There was no batch. The console makes them, and `wxnotify redrive --pace`.");
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
    report.in_part().line(said(
        format!("No batch has the id {id}."),
        format!("没有编号为 {id} 的批次。"),
    ));
    report.next("`wxnotify batch list`");
    report
}

pub(super) async fn show(id: i64, store: &Store) -> anyhow::Result<Report> {
    let Some(batch) = store.read_batch(id).await? else {
        return Ok(not_found(id));
    };
    let causes = store.batch_causes(id).await?;
    let outcomes = store.batch_outcomes(id).await?;
    let mut report = Report::new(json!({ "batch": batch, "causes": causes, "outcomes": outcomes }));
    report.toned_line(progress(&batch), tone_of(&batch.state));
    if let Some(note) = &batch.note {
        report.line(said(format!("why: {note}"), format!("原因：{note}")));
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
    let Batch {
        id,
        verb,
        actor,
        state,
        changed,
        unchanged,
        left_out,
        ..
    } = batch;
    let meant = batch.rows - left_out;
    said(
        format!(
            "batch {id} ({verb} by {actor}): {state}; {changed} of {meant} rows done, {unchanged} refused since they moved, {left_out} left out"
        ),
        format!(
            "批次 {id}（{verb}，{actor}）：{state}；{meant} 行中已完成 {changed} 行，{unchanged} 行因已变动而未执行，不处理 {left_out} 行"
        ),
    )
}

/// What the exit code and the next step say of a batch that was worked off here.
pub(super) fn report_on(report: &mut Report, batch: &Batch) {
    if batch.state != "done"
        || batch.unchanged > 0
        || batch.left_out > 0
        || batch.more
        || batch.rows == 0
    {
        report.in_part();
    }
    if batch.more {
        report.next("more rows match: run the command again, or give a larger --limit");
    }
    if batch.state == "stopped" && batch.waiting > 0 {
        report.next("run the command again for the rows that were not done");
    }
    if batch.verb == "redrive" && batch.changed > 0 {
        report.next(said(
            format!(
                "`wxnotify batch undo {}` takes back what nobody has sent yet",
                batch.id
            ),
            format!("`wxnotify batch undo {}` 撤销尚未发送的行", batch.id),
        ));
    }
}

/// Whoever goes on with it is named for the rest in operator_actions; two who do so at once share it.
async fn go_on(id: i64, store: &Store) -> anyhow::Result<Report> {
    let Some(batch) = store.read_batch(id).await? else {
        return Ok(not_found(id));
    };
    if batch.state != "running" {
        let mut report = show(id, store).await?;
        report.in_part();
        return Ok(report);
    }
    paced::run(store, id, &audit(None)).await
}

async fn undo(args: UndoArgs, store: &Store) -> anyhow::Result<Report> {
    match store.read_batch(args.id).await? {
        None => return Ok(not_found(args.id)),
        Some(batch) if batch.verb != "redrive" => {
            return Err(OperateError::usage(
                format!(
                    "batch {} is a {}: only a redrive can be undone",
                    args.id, batch.verb
                ),
                "`wxnotify batch list`",
            )
            .into());
        }
        Some(_) => {}
    }
    let work = Work {
        verb: "undo",
        filter: json!({ "batch": args.id }),
        rows_max: BATCH_ROWS_MAX,
        pace: args.pace,
        dry_run: args.dry_run,
    };
    paced::change(store, work, &audit(args.note)).await
}

async fn stop(args: StopArgs, store: &Store) -> anyhow::Result<Report> {
    if store.read_batch(args.id).await?.is_none() {
        return Ok(not_found(args.id));
    }
    let state = store.stop_batch(args.id, &audit(args.note)).await?;
    let is_stopped = state == "stopped";
    let mut report = Report::new(json!({ "id": args.id, "stopped": is_stopped, "state": state }));
    if is_stopped {
        report.line(said(
            format!("Batch {} is stopped: the rest stays as it is.", args.id),
            format!("批次 {} 已停止：其余保持不变。", args.id),
        ));
    } else {
        report.in_part().line(said(
            format!("Batch {} was not stopped: it is {state}.", args.id),
            format!("批次 {} 没有停止：其状态为 {state}。", args.id),
        ));
    }
    Ok(report)
}
