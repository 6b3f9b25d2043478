//! The rows of a search as CSV or NDJSON, without receivers and texts; that they were exported is recorded.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::find::{Asked, find};
use super::question;
use crate::console::frame;
use crate::console::visit::Operator;
use crate::operate::search::{to_csv, to_ndjson};

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
