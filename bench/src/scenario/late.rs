//! Live rows come one by one while a producer copies a million bulk rows in one transaction that commits long after: its rows
//! become visible far behind every watermark. They must drain at full speed, and the live rows must not wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::RunArgs;
use crate::contender::{insert_rows, load_wxnotify};
use crate::crew::Crew;
use crate::message;
use crate::report::{self, Table, whole};
use crate::stage::{Database, Stage};

/// How long the copy stays uncommitted at scale 1, and the pause between two live rows.
const OPEN_SECS: f64 = 60.0;
const LIVE_EVERY: Duration = Duration::from_millis(10);

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let copied = (1e6 * args.scale) as u64;
    let open = Duration::from_secs_f64((OPEN_SECS * args.scale).max(3.0));
    let database = stage.database().await?;
    load_wxnotify(&database.pool, 1, 0).await?;
    let crew = Crew::start(&database, 1, 64, 1).await?;

    // The usual speed, for comparison.
    let usual_rows = (copied / 4).max(args.rows);
    insert_rows(&database.pool, 1, 1, usual_rows).await?;
    let usual = crew.stretch(stage, usual_rows / 10, usual_rows).await?.rate;

    let stop = Arc::new(AtomicBool::new(false));
    let live = tokio::spawn(insert_live(database.url.clone(), stop.clone()));
    let mut copying = PgConnection::connect(&database.url).await?;
    let statement = format!(
        "begin; insert into pending_notifications (appid, openid, template_id, page, data, lane) \
         select {}, 2 from generate_series({}, {}) n",
        message::columns_in_sql(1),
        usual_rows + 1,
        usual_rows + copied
    );
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut copying)
        .await?;
    tokio::time::sleep(open).await;
    let before = crew.fake.counts().await?.0;
    sqlx::raw_sql("commit").execute(&mut copying).await?;
    let late = crew
        .stretch(stage, before + copied / 10, before + copied)
        .await?
        .rate;
    stop.store(true, Ordering::Relaxed);
    let live_rows = live.await??;
    let (sent, p50, p99) = waits(&database, live_rows).await?;
    crew.end().await?;
    stage.drop_database(database).await?;

    let mut table = Table::new(["", "rows/s", "of the usual rate", "p50, ms", "p99, ms"]);
    let dash = || "–".to_owned();
    table.row([
        "usual drain".to_owned(),
        whole(usual),
        "1.00".to_owned(),
        dash(),
        dash(),
    ]);
    table.row([
        "the late rows, live ones among them".to_owned(),
        whole(late),
        format!("{:.2}", late / usual),
        dash(),
        dash(),
    ]);
    table.row([
        format!("{sent} live rows, from INSERT to recorded"),
        dash(),
        dash(),
        format!("{p50:.0}"),
        format!("{p99:.0}"),
    ]);
    let text = format!(
        "{}\n{} rows in lane 2, committed {:.0} s after the last of them was copied; live rows in lane 1, one each {} ms.",
        table.markdown(),
        whole(copied as f64),
        open.as_secs_f64(),
        LIVE_EVERY.as_millis()
    );
    report::write(&args.docs, "late", &text)
}

/// Inserts one row after the other until told to stop. Returns how many.
async fn insert_live(url: String, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let mut session = PgConnection::connect(&url).await?;
    let statement = format!(
        "insert into pending_notifications (appid, openid, template_id, page, data, business_ref) \
         select {}, 'live' from (values ($1::bigint)) v (n)",
        message::columns_in_sql(1)
    );
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        sqlx::query(AssertSqlSafe(statement.clone()))
            .bind(i64::try_from(1_000_000_000 + number)?)
            .execute(&mut session)
            .await?;
        tokio::time::sleep(LIVE_EVERY).await;
    }
    Ok(number)
}

/// How long the live rows took from their INSERT to the record of their end, in milliseconds.
async fn waits(database: &Database, live_rows: u64) -> anyhow::Result<(i64, f64, f64)> {
    let live_rows = i64::try_from(live_rows)?;
    for _ in 0..500 {
        let (sent, p50, p99): (i64, Option<f64>, Option<f64>) = sqlx::query_as(
            "select count(*), percentile_cont(0.5) within group (order by wait), percentile_cont(0.99) within group (order by wait) \
             from (select extract(epoch from finished_at - created_at)::float8 * 1000 as wait from notification_history where business_ref = 'live') h",
        )
        .fetch_one(&database.pool)
        .await?;
        if sent == live_rows {
            return Ok((sent, p50.unwrap_or(f64::NAN), p99.unwrap_or(f64::NAN)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("not all of {live_rows} live rows were sent")
}
