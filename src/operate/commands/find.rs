//! `wxnotify find`, `reveal` and `export`: the console's box, one row's texts, and rows as a file.

use chrono::{TimeDelta, Utc};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{OperateError, audit};
use crate::operate::report::{Report, Table, Tone, cell, moment, optional};
use crate::operate::search;
use crate::operate::words::said;
use crate::store::console::{Found, Narrowed};
use crate::store::{Store, StoreError};

/// Hours in all that can be kept.
const HOURS_MAX: i64 = 24 * 400;

/// `wxnotify find`
#[derive(Debug, Args)]
pub struct FindArgs {
    /// An id, openid, business_ref, dedup_key, msgid or rid: the whole value
    pub key: String,
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=200))]
    pub limit: i64,
}

/// `wxnotify reveal`
#[derive(Debug, Args)]
pub struct RevealArgs {
    /// The notification
    pub id: i64,
    /// Your reason, kept in operator_actions
    #[arg(long)]
    pub note: String,
}

/// `wxnotify export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file's form
    #[arg(long, value_enum, default_value = "csv")]
    pub format: Format,
    /// ended, moving, badly (dead, expired, unresolved), or one status
    #[arg(long, default_value = "ended")]
    pub status: String,
    /// Of this mini-program
    #[arg(long)]
    pub appid: Option<String>,
    /// Of this template
    #[arg(long = "template", value_name = "TEMPLATE_ID")]
    pub template_id: Option<String>,
    /// With this errcode of WeChat at the last attempt
    #[arg(long, value_name = "CODE", allow_negative_numbers = true)]
    pub errcode: Option<i64>,
    /// Of rows that have ended: within so many hours
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(i64).range(1..=HOURS_MAX))]
    pub hours: i64,
    /// At most so many rows; the exit code says when there were more
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    pub limit: i64,
    /// Your reason, kept in operator_actions
    #[arg(long)]
    pub note: Option<String>,
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For spreadsheets.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

pub(super) async fn find(args: FindArgs, store: &Store) -> anyhow::Result<Report> {
    let rows_max = args.limit + 1;
    let (found, with_openids) = match search::find_key(store, &args.key, true, rows_max).await {
        // A viewer finds by everything but the receiver.
        Err(error) if is_refused(&error) => (
            search::find_key(store, &args.key, false, rows_max).await?,
            false,
        ),
        found => (found?, true),
    };
    let (mut rows, found_by) = found;
    let has_more = rows.len() as i64 > args.limit;
    rows.truncate(args.limit as usize);
    let mut report =
        Report::new(json!({ "rows": rows, "found_by": found_by, "has_more": has_more }));
    if rows.is_empty() {
        report.in_part().line(if with_openids {
            said(
                "Nothing found: searched as id, business_ref, dedup_key, msgid and rid, and as openid, in all that is kept.",
                "没有找到：已在所保存的全部数据中按编号、business_ref、dedup_key、msgid、rid 和 openid 查找。",
            )
        } else {
            said(
                "Nothing found: searched as id, business_ref, dedup_key, msgid and rid; this login may not search by openid, in all that is kept.",
                "没有找到：已在所保存的全部数据中按编号、business_ref、dedup_key、msgid 和 rid 查找；该登录不能按 openid 查找。",
            )
        });
        report.next(
            "give the whole value; a msgid without a receipt is looked for in the last 3 days",
        );
        return Ok(report);
    }
    let (count, keys) = (rows.len(), found_by.join(", "));
    let (of_more, of_more_zh) = if has_more {
        (" of more", "（还有更多）")
    } else {
        ("", "")
    };
    report.line(said(
        format!("{count}{of_more} found by {keys}"),
        format!("按 {keys} 找到 {count} 行{of_more_zh}"),
    ));
    report.table(found_table(&rows));
    if let [row] = rows.as_slice() {
        report.next(format!("`wxnotify explain {}`", row.id));
    }
    Ok(report)
}

fn is_refused(error: &StoreError) -> bool {
    error.sqlstate().as_deref() == Some("42501")
}

fn found_table(rows: &[Found]) -> Table {
    let mut table = Table::new(&[
        "id#",
        "status",
        "appid",
        "template",
        "business_ref",
        "why",
        "created",
        "ended or next",
    ]);
    for row in rows {
        let why = match (row.errcode, row.errmsg.as_deref()) {
            (Some(errcode), errmsg) => Some(format!("{errcode} {}", errmsg.unwrap_or_default())),
            (None, errmsg) => errmsg.map(str::to_owned),
        };
        table.row(vec![
            cell(row.id),
            (row.status.clone(), Tone::of_status(&row.status)),
            cell(&row.appid),
            cell(&row.template_id),
            optional(row.business_ref.as_ref()),
            optional(why),
            moment(Some(row.created_at)),
            moment(row.finished_at.or(row.next_at)),
        ]);
    }
    table
}

pub(super) async fn reveal(args: RevealArgs, store: &Store) -> anyhow::Result<Report> {
    if args.note.trim().is_empty() {
        return Err(OperateError::usage(
            "a reason is required: that you look is recorded".to_owned(),
            "give it with --note".to_owned(),
        )
        .into());
    }
    let revealed = store.reveal(args.id, &audit(Some(args.note))).await?;
    // Of an id that does not exist the function gives a row of nothing.
    let revealed = revealed.filter(|shown| shown.openid.is_some() || shown.data.is_some());
    let Some(shown) = revealed else {
        let mut report = Report::new(json!({ "id": args.id, "found": false }));
        report.in_part().line(said(
            format!("No notification has the id {}.", args.id),
            format!("没有编号为 {} 的通知。", args.id),
        ));
        report.next("look for it by another key: `wxnotify find KEY`");
        return Ok(report);
    };
    let mut report = Report::new(
        json!({ "id": args.id, "openid": shown.openid, "page": shown.page, "data": shown.data }),
    );
    report.line(format!("openid {}", shown.openid.as_deref().unwrap_or("-")));
    let page = shown.page.as_deref().unwrap_or("-");
    report.line(said(format!("page   {page}"), format!("页面   {page}")));
    for (key, value) in shown
        .data
        .as_ref()
        .and_then(|data| data.as_object())
        .into_iter()
        .flatten()
    {
        let value = value.get("value").unwrap_or(value);
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        report.line(format!("{key}: {text}"));
    }
    report.line("That you looked is recorded.");
    Ok(report)
}

pub(super) async fn export(args: ExportArgs, store: &Store) -> anyhow::Result<Report> {
    let statuses = search::statuses_of(&args.status);
    if statuses.is_empty() {
        return Err(OperateError::usage(
            format!("{:?} is no status", args.status),
            format!(
                "write ended, moving, badly or one of {}",
                search::STATUSES.join(", ")
            ),
        )
        .into());
    }
    let narrowed = Narrowed {
        statuses,
        appid: args.appid.clone(),
        template_id: args.template_id.clone(),
        errcode: args.errcode,
        since: Utc::now() - TimeDelta::hours(args.hours),
        after: None,
        rows_max: args.limit + 1,
    };
    let mut rows = search::find(store, &narrowed).await?;
    let has_more = rows.len() as i64 > args.limit;
    rows.truncate(args.limit as usize);
    let which = json!({ "format": args.format.word(), "rows": rows.len(), "by_key": false, "appid": args.appid,
        "template_id": args.template_id, "status": args.status, "errcode": args.errcode, "hours": args.hours });
    store
        .record_action("export", &which, &audit(args.note))
        .await?;
    let mut report = Report::new(json!({ "rows": rows.len(), "has_more": has_more }));
    if has_more {
        report.in_part();
    }
    report.file(match args.format {
        Format::Csv => search::to_csv(&rows),
        Format::Ndjson => search::to_ndjson(&rows),
    });
    Ok(report)
}
