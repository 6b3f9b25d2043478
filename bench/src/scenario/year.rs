//! Ten million rows in the history, a tenth of them claimed by an accept: the first hundred rows of every view, the operators'
//! queries, the metrics page, and the longest statement of a worker that has nothing to send but keeps the house.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::RunArgs;
use crate::contender::{load_wxnotify, wxnotify_for_ever};
use crate::message;
use crate::report::{self, Table, whole};
use crate::stage::{Database, FakeProcess, Stage};
use crate::traffic::judged;
use crate::views;

use super::ahead;

/// Rows of the history at scale 1.
const HISTORY: f64 = 1e7;
/// One accept for so many rows.
const ROWS_PER_ACCEPT: u64 = 10;
/// The log grows less than this in five seconds: the worker's upkeep has caught up.
const AT_REST_BYTES: u64 = 100_000;
const AT_REST: Duration = Duration::from_secs(5);
const UPKEEP_LIMIT: Duration = Duration::from_secs(1800);
/// How long the worker's statements and its page are watched, and how often.
const WATCHED: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(20);
const PAGES: u32 = 20;
const BAR_MS: f64 = views::LIMIT.as_millis() as f64;

/// What an idle worker does to such a database.
struct Housekeeping {
    caught_up_secs: f64,
    page_ms: f64,
    statement_ms: f64,
    /// The beginning of the longest statement.
    statement: String,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let history = (HISTORY * args.scale) as u64;
    let database = stage.database().await?;
    load_wxnotify(&database.pool, 1, 0).await?;
    ahead::fill(&database, 0, history).await?;
    fill_events(&database, history).await?;
    let housekeeping = keep_house(stage, &database).await?;
    let mut timed = views::time(&database).await?;
    stage.drop_database(database).await?;
    timed.sort_by_key(|each| std::cmp::Reverse(each.took));
    let mut table = Table::new(["read", "ms"]);
    table.row([
        "the metrics page, the slowest of 20".to_owned(),
        judged(housekeeping.page_ms, BAR_MS, 1),
    ]);
    table.row([
        format!("a worker's longest statement, `{}`", housekeeping.statement),
        judged(housekeeping.statement_ms, BAR_MS, 1),
    ]);
    for each in &timed {
        table.row([
            each.label.clone(),
            judged(each.took.as_secs_f64() * 1e3, BAR_MS, 1),
        ]);
    }
    let text = format!(
        "{}\n{} rows in the history over 24 months, an accept for each {ROWS_PER_ACCEPT}; the bar in parentheses, `jit` off. Upkeep had \
         nothing left to do after {:.0} s; then a worker was watched for {} s.",
        table.markdown(),
        whole(history as f64),
        housekeeping.caught_up_secs,
        WATCHED.as_secs()
    );
    report::write(&args.docs, "year", &text)
}

/// Accepts that rows of the history have claimed.
async fn fill_events(database: &Database, history: u64) -> anyhow::Result<()> {
    let statement = format!(
        "alter table wechat_events disable trigger user; \
         insert into wechat_events (appid, event, openid, template_id, occurred_at, received_at, applied_at, answer, notification_id) \
         select appid, 'subscribe_msg_popup_event', openid, template_id, created_at, created_at, created_at, 'accept', id \
         from notification_history where id % {ROWS_PER_ACCEPT} = 0 and id >= -{history}; \
         alter table wechat_events enable trigger user"
    );
    let mut session = PgConnection::connect(&database.url).await?;
    sqlx::raw_sql("set synchronous_commit = off")
        .execute(&mut session)
        .await?;
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut session)
        .await?;
    sqlx::raw_sql("vacuum analyze")
        .execute(&mut session)
        .await?;
    Ok(session.close().await?)
}

/// Lets a worker catch up with what was written past it, then watches it.
async fn keep_house(stage: &Stage, database: &Database) -> anyhow::Result<Housekeeping> {
    let fake = FakeProcess::start(Duration::ZERO).await?;
    let address = free_address()?;
    let mut worker = wxnotify_for_ever(&database.url, &fake.base_url, 64, &[message::APPID])?
        .env("WXNOTIFY_LISTEN", &address)
        .kill_on_drop(true)
        .spawn()?;
    let began = Instant::now();
    wait_for_rest(stage, began).await?;
    let caught_up_secs = began.elapsed().as_secs_f64();
    let page_ms = slowest_page(&format!("http://{address}/metrics")).await?;
    let (statement_ms, statement) = longest_statement(database).await?;
    worker.kill().await?;
    Ok(Housekeeping {
        caught_up_secs,
        page_ms,
        statement_ms,
        statement,
    })
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

async fn wait_for_rest(stage: &Stage, began: Instant) -> anyhow::Result<()> {
    let mut before = stage.wal_bytes().await?;
    loop {
        tokio::time::sleep(AT_REST).await;
        let now = stage.wal_bytes().await?;
        if now - before < AT_REST_BYTES {
            return Ok(());
        }
        before = now;
        anyhow::ensure!(
            began.elapsed() < UPKEEP_LIMIT,
            "upkeep did not catch up within {UPKEEP_LIMIT:?}"
        );
    }
}

async fn slowest_page(url: &str) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut slowest = Duration::ZERO;
    for _ in 0..PAGES {
        let began = Instant::now();
        client
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?;
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(slowest.as_secs_f64() * 1e3)
}

/// The longest that one of the database's other sessions was seen at, in milliseconds, and the statement's beginning.
async fn longest_statement(database: &Database) -> anyhow::Result<(f64, String)> {
    let mut session = PgConnection::connect(&database.url).await?;
    let mut longest = (0.0, "–".to_owned());
    let began = Instant::now();
    while began.elapsed() < WATCHED {
        let seen: Option<(f64, String)> = sqlx::query_as(
            "select extract(epoch from clock_timestamp() - query_start)::float8 * 1000, \
                    left(regexp_replace(regexp_replace(query, '^(--[^\\n]*\\n)+', ''), '\\s+', ' ', 'g'), 60) \
             from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
               and state = 'active' and backend_type = 'client backend' order by 1 desc limit 1",
        )
        .fetch_optional(&mut session)
        .await?;
        if let Some(seen) = seen
            && seen.0 > longest.0
        {
            longest = seen;
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(longest)
}
