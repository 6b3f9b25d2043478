//! A verb over many rows at a pace: the batch that the console makes, previewed and worked off here.
//!
//! The batch is in the database: Ctrl-C stops it, `wxnotify batch run` goes on with one whose command died, and `wxnotify batch undo`
//! takes back what a redrive made and nobody sent.
//!
//! Start at [`change`].

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::OperateError;
use super::batches::{report_on, show};
use crate::operate::report::Report;
use crate::signals::StopSignals;
use crate::store::batches::Batch;
use crate::store::verbs::Audit;
use crate::store::{Store, StoreError};

/// Rows of one part: a transaction each.
const PART_ROWS: i32 = 200;
/// How long to wait when the pace allowed nothing, or somebody else did a part.
const REST: Duration = Duration::from_millis(200);

/// Rows a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace(pub i32);

/// Reads `600/min`, `10/s`, `3600/h` or `600`, rows a minute.
///
/// # Errors
///
/// Says what a pace looks like.
pub fn parse_pace(text: &str) -> Result<Pace, String> {
    let (count, unit) = text.split_once('/').unwrap_or((text, "min"));
    let count: Option<i64> = count.parse().ok();
    let per_minute = match unit {
        "min" | "m" => count,
        "s" | "sec" => count.and_then(|count| count.checked_mul(60)),
        "h" | "hour" => count.map(|count| count / 60),
        _ => None,
    };
    match per_minute {
        Some(rows @ 1..=600_000) => Ok(Pace(i32::try_from(rows).unwrap_or(600_000))),
        _ => Err(
            "must be a number of rows and a unit, such as 600/min, 10/s or 3600/h: from 1/min to 10000/s".to_owned(),
        ),
    }
}

/// What is to be done, and how.
pub(super) struct Work<'a> {
    /// `redrive`, `cancel` or `undo`.
    pub verb: &'a str,
    /// Which rows.
    pub filter: Value,
    /// At most so many.
    pub rows_max: i32,
    /// As fast as it goes where there is none.
    pub pace: Option<Pace>,
    /// Only say what would be changed.
    pub dry_run: bool,
}

/// Previews a batch, and unless it is a dry run starts it and works it off.
pub(super) async fn change(store: &Store, work: Work<'_>, audit: &Audit) -> anyhow::Result<Report> {
    let Some(note) = audit.note.as_deref().filter(|note| !note.trim().is_empty()) else {
        if work.dry_run {
            let id = preview(store, &work, audit).await?;
            return show(id, store).await;
        }
        return Err(OperateError::usage(
            format!(
                "{}: many rows need a reason; nothing was changed",
                work.verb
            ),
            "give it with --note; it is kept in operator_actions",
        )
        .into());
    };
    let id = preview(store, &work, audit).await?;
    if work.dry_run {
        return show(id, store).await;
    }
    let pace = work.pace.map(|Pace(rows)| rows);
    match store.start_batch(id, note, pace, audit).await?.as_str() {
        "running" => run(store, id, audit).await,
        state => Err(OperateError::usage(
            format!("batch {id} was not started: it is {state}"),
            format!("`wxnotify batch show {id}`"),
        )
        .into()),
    }
}

async fn preview(store: &Store, work: &Work<'_>, audit: &Audit) -> Result<i64, StoreError> {
    store
        .preview_batch(work.verb, &work.filter, work.rows_max, audit)
        .await
}

/// Works a running batch off, or stops it when a signal asks to.
pub(super) async fn run(store: &Store, id: i64, audit: &Audit) -> anyhow::Result<Report> {
    let mut stop = StopSignals::listen()?;
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let style = "{bar:30} {pos} of {len}  {per_sec}  {eta} left  {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    loop {
        let done = tokio::select! {
            done = store.step_batch(id, PART_ROWS, audit) => done?,
            _ = stop.next() => {
                bar.finish_and_clear();
                store.stop_batch(id, audit).await?;
                return report(store, id).await;
            }
        };
        let Some(batch) = store.read_batch(id).await? else {
            break;
        };
        show_progress(&bar, &batch);
        if batch.state != "running" {
            break;
        }
        if done == 0 {
            tokio::select! {
                () = tokio::time::sleep(REST) => {}
                _ = stop.next() => {
                    bar.finish_and_clear();
                    store.stop_batch(id, audit).await?;
                    return report(store, id).await;
                }
            }
        }
    }
    bar.finish_and_clear();
    report(store, id).await
}

fn show_progress(bar: &ProgressBar, batch: &Batch) {
    let count = |rows: i64| rows.unsigned_abs();
    bar.set_length(count(batch.rows - batch.left_out));
    bar.set_position(count(batch.changed + batch.unchanged));
    if batch.unchanged > 0 {
        bar.set_message(format!("{} refused", batch.unchanged));
    }
}

async fn report(store: &Store, id: i64) -> anyhow::Result<Report> {
    let mut report = show(id, store).await?;
    if let Some(batch) = store.read_batch(id).await? {
        report_on(&mut report, &batch);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_a_number_of_rows_and_a_unit() {
        for (text, per_minute) in [
            ("600/min", 600),
            ("600", 600),
            ("10/s", 600),
            ("3600/h", 60),
        ] {
            assert_eq!(parse_pace(text), Ok(Pace(per_minute)), "{text}");
        }
        for text in [
            "",
            "fast",
            "0/min",
            "-1/s",
            "59/h",
            "10/week",
            "10001/s",
            "99999999999999999/s",
        ] {
            let error = parse_pace(text).unwrap_err();
            assert!(error.contains("600/min"), "{text}: {error}");
        }
    }
}
