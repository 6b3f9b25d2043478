//! Sixteen producers insert one row a transaction while a worker is busy: what waking costs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::RunArgs;
use crate::contender::{load_wxnotify, wxnotify_for_ever};
use crate::message;
use crate::report::{self, Table, median, whole};
use crate::stage::{FakeProcess, Stage};

const PRODUCERS: u64 = 16;
const SPAN: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bell {
    /// The trigger is off; the worker finds rows by polling.
    Off,
    /// As shipped: it rings only while a worker sleeps.
    Gated,
    /// Every INSERT notifies, as if a worker slept always.
    EveryTime,
}

const VARIANTS: [(Bell, &str); 3] = [
    (Bell::Off, "no bell"),
    (
        Bell::Gated,
        "as shipped: the bell rings only while a worker sleeps",
    ),
    (Bell::EveryTime, "a NOTIFY for every INSERT"),
];

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); VARIANTS.len()];
    for _ in 0..args.rounds {
        for ((bell, _), rates) in VARIANTS.iter().zip(&mut rates) {
            rates.push(measure(stage, *bell).await?);
        }
    }
    let mut table = Table::new(["", "inserts/s", "of the rate without the bell"]);
    for ((_, label), of) in VARIANTS.iter().zip(&rates) {
        let ratios = of
            .iter()
            .zip(&rates[0])
            .map(|(rate, without)| rate / without);
        table.row([
            (*label).to_owned(),
            whole(median(of.iter().copied())),
            format!("{:.2}", median(ratios)),
        ]);
    }
    let text = format!(
        "{}\n{PRODUCERS} producers for {} s, {} rounds, medians.",
        table.markdown(),
        SPAN.as_secs(),
        args.rounds
    );
    report::write(&args.docs, "producers", &text)
}

async fn measure(stage: &Stage, bell: Bell) -> anyhow::Result<f64> {
    let database = stage.database().await?;
    load_wxnotify(&database.pool, 1, 0).await?;
    let preparation = match bell {
        Bell::Off => "alter table pending_notifications disable trigger bell",
        Bell::Gated => "",
        Bell::EveryTime => {
            "create or replace function wxnotify_ring() returns void language sql as $$ select pg_notify('wxnotify', '') $$"
        }
    };
    sqlx::raw_sql(preparation).execute(&database.pool).await?;
    let fake = FakeProcess::start(Duration::ZERO).await?;
    let mut worker = wxnotify_for_ever(&database.url, &fake.base_url, 64, &[message::APPID])?
        .kill_on_drop(true)
        .spawn()?;
    let pool = PgPoolOptions::new()
        .max_connections(u32::try_from(PRODUCERS)?)
        .connect(&database.url)
        .await?;
    insert_one(&pool, 1).await?;
    fake.wait_for(1, Duration::from_secs(30)).await?;
    let (stop, next) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(2)),
    );
    let began = Instant::now();
    let producers = (0..PRODUCERS).map(|_| {
        let (pool, stop, next) = (pool.clone(), stop.clone(), next.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                insert_one(&pool, next.fetch_add(1, Ordering::Relaxed)).await?;
            }
            anyhow::Ok(())
        })
    });
    let producers: Vec<_> = producers.collect();
    tokio::time::sleep(SPAN).await;
    stop.store(true, Ordering::Relaxed);
    for producer in producers {
        producer.await??;
    }
    let inserted = next.load(Ordering::Relaxed) - 2;
    let rate = inserted as f64 / began.elapsed().as_secs_f64();
    worker.kill().await?;
    pool.close().await;
    stage.drop_database(database).await?;
    Ok(rate)
}

async fn insert_one(pool: &PgPool, number: u64) -> anyhow::Result<()> {
    let statement = format!(
        "insert into pending_notifications (appid, openid, template_id, page, data) \
         select {} from (values ($1::bigint)) v (n)",
        message::columns_in_sql(1)
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(i64::try_from(number)?)
        .execute(pool)
        .await?;
    Ok(())
}
