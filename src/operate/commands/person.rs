//! `wxnotify person`: everything that is kept of one user as a file, and its erasure.
//!
//! Start at [`run`].

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{OperateError, audit};
use crate::operate::report::{Report, Table, cell};
use crate::operate::verbs::pauses::need_app;
use crate::operate::words::said;
use crate::store::Store;
use crate::store::privacy::PersonCount;

/// What an erasure says of rows that it had to leave.
const LEFT: &str = "left in flight or in doubt";

/// Commands on one user of one mini-program.
#[derive(Debug, Subcommand)]
pub enum PersonCommand {
    /// Everything that is kept of a user, one JSON object a line; that it was read is recorded
    Export(ExportArgs),
    /// Erase a user: reminders and waiting messages end, and a pseudonym stands for the user in what the books need
    Erase(EraseArgs),
}

/// `wxnotify person export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// WeChat's appid
    appid: String,
    /// The user's openid in it
    openid: String,
    /// Into this file, which only you may read, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// Your reason, kept in operator_actions
    #[arg(long)]
    note: Option<String>,
}

/// `wxnotify person erase`
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// WeChat's appid
    appid: String,
    /// The user's openid in it
    openid: String,
    /// Only say what would be erased
    #[arg(long)]
    dry_run: bool,
    /// Your reason, kept in operator_actions
    #[arg(long, required_unless_present = "dry_run")]
    note: Option<String>,
}

pub(super) async fn run(command: PersonCommand, store: &Store) -> anyhow::Result<Report> {
    match command {
        PersonCommand::Export(args) => export(args, store).await,
        PersonCommand::Erase(args) => erase(args, store).await,
    }
}

async fn export(args: ExportArgs, store: &Store) -> anyhow::Result<Report> {
    need_app(store, &args.appid).await?;
    let rows = store
        .export_person(&args.appid, &args.openid, &audit(args.note))
        .await?;
    let mut text = String::new();
    for row in &rows {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    let mut report =
        Report::new(json!({ "appid": args.appid, "rows": rows.len(), "file": args.output }));
    match &args.output {
        None => {
            report.file(text);
        }
        Some(path) => {
            write_privately(path, &text, args.force)?;
            let (count, path) = (rows.len(), path.display());
            report.line(said(
                format!("{count} rows are in {path}."),
                format!("{path} 中有 {count} 行。"),
            ));
        }
    }
    if rows.is_empty() {
        report.in_part();
    }
    Ok(report)
}

/// Into a file that nobody else may read.
fn write_privately(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        OperateError::usage(
            format!("{} cannot be written: {error}", path.display()),
            "name another file, or replace this one with --force",
        )
        .into()
    })
}

async fn erase(args: EraseArgs, store: &Store) -> anyhow::Result<Report> {
    need_app(store, &args.appid).await?;
    if args.dry_run {
        let counts = store.count_person(&args.appid, &args.openid).await?;
        let mut report = Report::new(
            json!({ "action": "erase_person", "dry_run": true, "appid": args.appid, "rows": counts }),
        );
        report.line("Rows that are kept of this user; nothing was changed.");
        show(&mut report, &counts, "table");
        return Ok(report);
    }
    let audit = audit(args.note);
    let mut done: Vec<PersonCount> = Vec::new();
    loop {
        let step = store
            .erase_person(&args.appid, &args.openid, &audit)
            .await?;
        let changed: i64 = step
            .iter()
            .filter(|count| count.what != LEFT)
            .map(|count| count.rows)
            .sum();
        add(&mut done, step);
        if changed == 0 {
            break;
        }
    }
    let left = done.iter().find(|count| count.what == LEFT);
    let left = left.map_or(0, |count| count.rows);
    let mut report = Report::new(
        json!({ "action": "erase_person", "dry_run": false, "appid": args.appid, "rows": done }),
    );
    report.line("A pseudonym stands for this user from now on; no text is left.");
    show(&mut report, &done, "what was done");
    if left > 0 {
        report.in_part().next(
            "messages in flight or in doubt are settled first: run the same command again in some minutes",
        );
    }
    Ok(report)
}

/// Adds a step to what was done; what is left is as the last step found it.
fn add(done: &mut Vec<PersonCount>, step: Vec<PersonCount>) {
    for count in step {
        match done.iter_mut().find(|known| known.what == count.what) {
            Some(known) if count.what == LEFT => known.rows = count.rows,
            Some(known) => known.rows += count.rows,
            None => done.push(count),
        }
    }
}

fn show(report: &mut Report, counts: &[PersonCount], heading: &'static str) {
    let mut table = Table::new(&[heading, "rows#"]);
    for count in counts {
        table.row(vec![cell(&count.what), cell(count.rows)]);
    }
    report.table(table);
}
