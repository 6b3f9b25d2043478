//! `wxnotify forecast`: what goes out in the next seven days, and what will lack a credit.

use clap::Args;
use serde_json::json;

use crate::operate::report::{Report, Table, Tone, cell};
use crate::operate::words::{moment, said};
use crate::store::Store;

/// `wxnotify forecast`
#[derive(Debug, Clone, Args)]
pub struct ForecastArgs {
    /// Only this mini-program
    pub appid: Option<String>,
    /// Only the hours in which somebody will lack a credit
    #[arg(long)]
    pub lacking: bool,
}

pub(super) async fn run(args: ForecastArgs, store: &Store) -> anyhow::Result<Report> {
    let mut hours = store.forecast(args.appid.as_deref()).await?;
    if args.lacking {
        hours.retain(|hour| hour.lacking > 0);
    }
    let mut report = Report::new(json!({ "hours": hours }));
    if hours.is_empty() {
        report.line(match args.lacking {
            true => "Nobody will lack a credit in the next seven days.",
            false => "Nothing is planned for the next seven days.",
        });
        return Ok(report);
    }
    let mut table = Table::new(&[
        "hour",
        "appid",
        "template",
        "rows#",
        "fires#",
        "receivers#",
        "will lack a credit#",
        "credits held#",
    ]);
    for hour in &hours {
        let tone = if hour.lacking > 0 {
            Tone::Warning
        } else {
            Tone::Plain
        };
        table.row(vec![
            cell(moment(hour.hour)),
            cell(&hour.appid),
            cell(&hour.template_id),
            cell(hour.rows_due),
            cell(hour.fires),
            cell(hour.receivers),
            (hour.lacking.to_string(), tone),
            cell(hour.credits_held),
        ]);
    }
    report.table(table);
    if let Some(first) = hours.iter().find(|hour| hour.lacking > 0) {
        let (template, hour) = (&first.template_id, moment(first.hour));
        let (lacking, receivers) = (first.lacking, first.receivers);
        report.next(said(
            format!("ask for credits of template {template} before {hour}: {lacking} of {receivers} receivers have none then"),
            format!("请在 {hour} 之前获取模板 {template} 的次数：届时 {receivers} 名接收者中有 {lacking} 名没有次数"),
        ));
    }
    Ok(report)
}
