//! The rows of a search as CSV or NDJSON, without receivers and texts; that they were exported is recorded.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::find::{Asked, find};
use super::question;
use crate::console::frame;
use crate::console::visit::Operator;
use crate::store::console::Found;

/// At most so many rows: what is more is narrowed by time.
const ROWS_MAX: i64 = 10_000;

pub(in crate::console) async fn download(Operator(visit): Operator) -> Response {
    let asked = question(&visit);
    let format = asked.get("format").map_or("csv", String::as_str);
    if !matches!(format, "csv" | "ndjson") {
        return (StatusCode::BAD_REQUEST, "format is csv or ndjson\n").into_response();
    }
    let rows = match find(&visit, &Asked::of(&visit), ROWS_MAX).await {
        Ok((rows, _)) => rows,
        Err(error) => return frame::failed(&visit, &error),
    };
    // A search by openid must not write the openid into the record.
    let which = json!({ "format": format, "rows": rows.len(), "by_key": asked.contains_key("q"),
        "appid": asked.get("appid"), "status": asked.get("status"), "errcode": asked.get("errcode"), "hours": asked.get("hours") });
    if let Err(error) = visit
        .store
        .record_action("export", &which, &visit.audit(None))
        .await
    {
        return frame::failed(&visit, &error);
    }
    let (kind, body) = if format == "csv" {
        ("text/csv; charset=utf-8", to_csv(&rows))
    } else {
        ("application/x-ndjson", to_ndjson(&rows))
    };
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"wxnotify.{format}\""),
        ),
    ];
    (headers, body).into_response()
}

const COLUMNS: [&str; 12] = [
    "id",
    "appid",
    "status",
    "template_id",
    "business_ref",
    "errcode",
    "errmsg",
    "attempts",
    "credit",
    "created_at",
    "finished_at",
    "next_at",
];

fn to_csv(rows: &[Found]) -> String {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let written = writer.write_record(COLUMNS).and_then(|()| {
        rows.iter()
            .try_for_each(|row| writer.write_record(cells(row).iter().map(|cell| defused(cell))))
    });
    written.expect("every row has as many cells as there are columns");
    let bytes = writer.into_inner().expect("memory takes what is written");
    // Spreadsheets take a file without this mark for another encoding than UTF-8.
    format!("\u{feff}{}", String::from_utf8_lossy(&bytes))
}

fn cells(row: &Found) -> [String; COLUMNS.len()] {
    let time = |at: Option<chrono::DateTime<chrono::Utc>>| {
        at.map_or_else(String::new, |at| at.to_rfc3339())
    };
    [
        row.id.to_string(),
        row.appid.clone(),
        row.status.clone(),
        row.template_id.clone(),
        row.business_ref.clone().unwrap_or_default(),
        row.errcode
            .map_or_else(String::new, |errcode| errcode.to_string()),
        row.errmsg.clone().unwrap_or_default(),
        row.attempts.to_string(),
        row.credit.clone().unwrap_or_default(),
        row.created_at.to_rfc3339(),
        time(row.finished_at),
        time(row.next_at),
    ]
}

/// A cell that no spreadsheet runs: what begins like a formula gets an apostrophe, unless it is a plain number.
fn defused(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<i64>().is_err() {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

fn to_ndjson(rows: &[Found]) -> String {
    rows.iter()
        .filter_map(|row| serde_json::to_string(row).ok())
        .flat_map(|line| [line, "\n".to_owned()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_numbers_stay_numbers() {
        let cells = ["=1+1", "+cmd", "-1", "@x", "plain"].map(defused);
        assert_eq!(cells, ["'=1+1", "'+cmd", "-1", "'@x", "plain"]);
    }

    #[test]
    fn a_reference_with_commas_quotes_and_formulas_is_one_cell() {
        let row = Found {
            id: 9_007_199_254_740_993,
            appid: "wx1".into(),
            status: "dead".into(),
            template_id: "Tmpl".into(),
            business_ref: Some("=a,\"b\"".into()),
            errcode: Some(-1),
            errmsg: None,
            attempts: 1,
            credit: None,
            created_at: chrono::DateTime::UNIX_EPOCH,
            finished_at: None,
            next_at: None,
        };
        let text = to_csv(&[row]);
        let line = text.lines().nth(1).unwrap_or_default();
        assert!(
            line.starts_with("9007199254740993,wx1,dead,Tmpl,\"'=a,\"\"b\"\"\",-1,,1,,1970"),
            "{line}"
        );
    }
}
