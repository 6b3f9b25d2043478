//! What happened: failures by cause, how long messages took, and who did what.

use clap::Args;
use serde_json::json;

use crate::operate::report::{Report, Table, Tone, cell, moment, optional};
use crate::operate::words::{reader, said};
use crate::store::Store;

/// `wxnotify failures`
#[derive(Debug, Args)]
pub struct FailuresArgs {
    /// Only this mini-program
    #[arg(long)]
    pub appid: Option<String>,
}

/// `wxnotify latency`
#[derive(Debug, Args)]
pub struct LatencyArgs {
    /// Only this mini-program
    #[arg(long)]
    pub appid: Option<String>,
}

/// `wxnotify actions`
#[derive(Debug, Args)]
pub struct ActionsArgs {
    /// Only by this person or login, as the list shows it
    #[arg(long)]
    pub actor: Option<String>,
    /// Only this verb, such as redrive
    #[arg(long)]
    pub action: Option<String>,
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub limit: i64,
}

pub(super) async fn failures(args: FailuresArgs, store: &Store) -> anyhow::Result<Report> {
    let causes = store.failure_causes(args.appid.as_deref()).await?;
    let mut report = Report::new(json!({ "causes": causes }));
    if causes.is_empty() {
        report.line("No attempt failed in the last 24 hours.");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "errcode#",
        "appid",
        "meaning",
        "wxnotify does",
        "attempts#",
        "died#",
        "doubts#",
        "first",
        "last",
    ]);
    for cause in &causes {
        let tone = if cause.dead > 0 {
            Tone::Bad
        } else {
            Tone::Plain
        };
        table.row(vec![
            optional(cause.errcode),
            cell(&cause.appid),
            cell(reader().pick(&cause.meaning, &cause.meaning_zh)),
            optional(cause.disposition.as_ref()),
            cell(cause.attempts),
            (cause.dead.to_string(), tone),
            cell(cause.doubts),
            moment(Some(cause.first_at)),
            moment(Some(cause.last_at)),
        ]);
    }
    report.table(table);
    for cause in causes.iter().filter(|cause| cause.dead > 0).take(5) {
        let errcode = cause
            .errcode
            .map_or_else(|| said("no errcode", "无 errcode"), |code| code.to_string());
        report.next(format!(
            "{errcode}: {}",
            reader().pick(&cause.advice, &cause.advice_zh)
        ));
    }
    Ok(report)
}

pub(super) async fn latency(args: LatencyArgs, store: &Store) -> anyhow::Result<Report> {
    let latency = store.latency(args.appid.as_deref()).await?;
    let mut report = Report::new(json!({ "latency": latency }));
    let Some(latency) = latency.filter(|latency| latency.sent.is_some()) else {
        report.line("Nothing was sent in the last hour.");
        return Ok(report);
    };
    let mut table = Table::new(&[
        "of the last hour",
        "half within#",
        "95 % within#",
        "99 % within#",
    ]);
    for (name, quantiles) in [
        (said("due to sent", "到期→发送"), &latency.sent),
        (said("sent to confirmed", "发送→回执"), &latency.confirmed),
    ] {
        let cells = (0..3).map(|at| {
            let secs = quantiles.as_ref().and_then(|quantiles| quantiles.get(at));
            optional(secs.map(|secs| format!("{secs:.1} s")))
        });
        table.row(std::iter::once(cell(name)).chain(cells).collect());
    }
    report.table(table);
    let (unconfirmed, expired) = (latency.unconfirmed, latency.expired);
    report.line(said(
        format!("{unconfirmed} not confirmed by an event; {expired} expired before they were sent"),
        format!("{unconfirmed} 条没有回执；{expired} 条在发送前过期"),
    ));
    Ok(report)
}

pub(super) async fn actions(args: ActionsArgs, store: &Store) -> anyhow::Result<Report> {
    let actions = store
        .actions(
            args.actor.as_deref(),
            args.action.as_deref(),
            None,
            args.limit,
        )
        .await?;
    let mut report = Report::new(json!({ "actions": actions }));
    if actions.is_empty() {
        report.line("Nobody did anything like that.");
        return Ok(report);
    }
    let mut table = Table::new(&["when", "who", "what", "rows#", "why", "which"]);
    for action in &actions {
        table.row(vec![
            moment(Some(action.at)),
            cell(&action.actor),
            cell(&action.action),
            cell(action.rows_changed),
            optional(action.note.as_ref()),
            cell(&action.filter),
        ]);
    }
    report.table(table);
    Ok(report)
}
