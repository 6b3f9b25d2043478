//! How long operators' views and queries take on a database.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use wxnotify::operate::search::STATUSES;

use crate::message;
use crate::report::Table;
use crate::stage::Database;

/// A view takes at most this long, totals aside.
pub const LIMIT: Duration = Duration::from_millis(100);

/// A query and the better of its two times.
pub struct Timed {
    pub label: String,
    pub took: Duration,
}

/// Every view's first hundred rows, one row's story and the operators' queries.
pub async fn time(database: &Database) -> anyhow::Result<Vec<Timed>> {
    let mut session = PgConnection::connect(&database.url).await?;
    sqlx::raw_sql("set jit = off").execute(&mut session).await?;
    let mut timed = Vec::new();
    for (label, query) in queries(database).await? {
        let mut took = Duration::MAX;
        for _ in 0..2 {
            let once = if is_for_psql(&query) {
                time_in_psql(database, &query).await
            } else {
                time_once(&mut session, &query).await
            };
            took = took.min(once.with_context(|| label.clone())?);
        }
        timed.push(Timed { label, took });
    }
    Ok(timed)
}

async fn time_once(session: &mut PgConnection, query: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    sqlx::raw_sql(AssertSqlSafe(query))
        .fetch_all(session)
        .await?;
    Ok(began.elapsed())
}

/// Whether a query has lines that psql alone understands.
fn is_for_psql(query: &str) -> bool {
    query.lines().any(|line| line.starts_with('\\'))
}

/// What psql itself says its statements took.
async fn time_in_psql(database: &Database, query: &str) -> anyhow::Result<Duration> {
    let mut psql = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &database.url])
        .env("PGOPTIONS", "-c jit=off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("psql is needed for the operators' queries and did not start")?;
    let mut input = psql.stdin.take().context("psql takes no input")?;
    input
        .write_all(format!("\\timing on\n{query}").as_bytes())
        .await?;
    drop(input);
    let output = psql.wait_with_output().await?;
    anyhow::ensure!(output.status.success(), "psql ended with {}", output.status);
    let milliseconds: f64 = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            line.strip_prefix("Time: ")?
                .split_whitespace()
                .next()?
                .parse::<f64>()
                .ok()
        })
        .sum();
    Ok(Duration::from_secs_f64(milliseconds / 1e3))
}

/// Labels and statements.
async fn queries(database: &Database) -> anyhow::Result<Vec<(String, String)>> {
    let mut queries: Vec<(String, String)> = sqlx::query_as::<_, (String,)>(
        "select viewname::text from pg_views where schemaname = current_schema() order by 1",
    )
    .fetch_all(&database.pool)
    .await?
    .into_iter()
    .map(|(view,)| {
        (
            format!("`{view}`, 100 rows"),
            format!("select * from {view} limit 100"),
        )
    })
    .collect();
    for status in STATUSES {
        queries.push((
            format!("`notifications`, 100 {status}"),
            format!("select * from notifications where status = '{status}' limit 100"),
        ));
    }
    let (id, openid): (i64, String) = sqlx::query_as(
        "select id, openid from notification_history order by id limit 1 offset 1000",
    )
    .fetch_one(&database.pool)
    .await?;
    queries.push((
        "`notifications` by id".to_owned(),
        format!("select * from notifications where id = {id}"),
    ));
    queries.push((
        "`notifications` of a user".to_owned(),
        format!(
            "select * from notifications where appid = '{}' and openid = '{openid}'",
            message::APPID
        ),
    ));
    queries.push((
        "`explain_notification`".to_owned(),
        format!("select * from explain_notification({id})"),
    ));
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/operator"));
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        queries.push((
            format!("`sql/operator/{}`", file.file_name().to_string_lossy()),
            std::fs::read_to_string(file.path())?,
        ));
    }
    Ok(queries)
}

/// How many keep to the limit, and a table of those that do not.
pub fn slow_ones(timed: &[Timed]) -> String {
    let slow: Vec<&Timed> = timed.iter().filter(|each| each.took > LIMIT).collect();
    let said = format!(
        "{} of {} views and operators' queries answer within {} ms, with `jit` off",
        timed.len() - slow.len(),
        timed.len(),
        LIMIT.as_millis()
    );
    if slow.is_empty() {
        return format!("{said}.");
    }
    let mut table = Table::new(["query", "ms"]);
    for each in slow {
        table.row([
            each.label.clone(),
            format!("{:.0}", each.took.as_secs_f64() * 1e3),
        ]);
    }
    format!("{said}; the others:\n\n{}", table.markdown())
}
