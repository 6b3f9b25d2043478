//! `wxnotify forecast`: what goes out in the next seven days, and what will lack a credit.

use clap::Args;
use serde_json::json;

use crate::operate::report::{Report, Table, Tone, cell};
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
            cell(hour.hour.format("%Y-%m-%d %H:%MZ")),
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
        report.next(format!(
            "ask for credits of template {} before {}: {} of {} receivers have none then",
            first.template_id,
            first.hour.format("%Y-%m-%d %H:%MZ"),
            first.lacking,
            first.receivers
        ));
    }
    Ok(report)
}
