//! A reminder for everybody at nine: of a million rows a tenth is scheduled for one instant, two workers idle until then. With
//! and without a rate.

use std::time::Duration;

use anyhow::Context;
use sqlx::AssertSqlSafe;

use crate::RunArgs;
use crate::contender::{Contender, graphile, load_wxnotify, pgmq, river};
use crate::crew::Crew;
use crate::message;
use crate::report::{self, Table, whole};
use crate::stage::{Database, FakeProcess, Stage};
use crate::traffic::{Accounts, Spent, judged, judged_from_below, most_within, now, spend};

const OURS: Contender = Contender::Wxnotify { concurrency: 64 };
const WORKERS: u32 = 2;
/// Rows in all and rows of the instant at scale 1.
const ROWS: f64 = 1e6;
const OF_THE_INSTANT: f64 = 1e5;
/// Sends a second where there is a rate, and for how long they are watched.
const RATE: u32 = 1000;
const WATCHED_SECS: u64 = 10;
/// Two idle workers and their database, in milliseconds of CPU a second.
const IDLE_BAR: f64 = IDLE_BEFORE * 0.6;
/// What they took before workers shared what they look for.
const IDLE_BEFORE: f64 = 9.0;
const IDLE: Duration = Duration::from_secs(4);
const BEGINNING: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(600);

struct Nine {
    label: String,
    rate: Option<u32>,
    ours: bool,
    idle: Spent,
    each: Spent,
    first_ms: f64,
    last_secs: f64,
    /// Arrivals in order, less the instant.
    moments: Vec<f64>,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let (rows, of_instant) = (
        (ROWS * args.scale) as u64,
        ((OF_THE_INSTANT * args.scale) as u64).max(5000),
    );
    let drain_rate = measure_drain(stage, of_instant).await?;
    let mut cases = Vec::new();
    for (contender, rate) in [
        (OURS, None),
        (OURS, Some(RATE)),
        (Contender::Pgmq, None),
        (Contender::GraphileRust, None),
        (Contender::River, None),
    ] {
        if args.without.contains(&contender.name()) {
            continue;
        }
        eprintln!("  {}, rate {rate:?}", contender.name());
        let case = measure(stage, contender, rate, rows, of_instant).await;
        cases.push(case.with_context(|| contender.name())?);
    }
    let text = text(&cases, rows, of_instant, drain_rate);
    report::write(&args.docs, "nine", &text)
}

/// The rate of the same workers, who find as many rows due, beside the same fake.
async fn measure_drain(stage: &Stage, rows: u64) -> anyhow::Result<f64> {
    let database = stage.database().await?;
    load_wxnotify(&database.pool, 1, rows).await?;
    sqlx::query("vacuum analyze")
        .execute(&database.pool)
        .await?;
    let fake = FakeProcess::start_recording().await?;
    let crew = Crew::start_of(OURS, fake, &database, WORKERS, 1, None)?;
    let drain = crew.stretch(stage, rows / 20, rows).await?;
    crew.end().await?;
    stage.drop_database(database).await?;
    Ok(drain.rate)
}

async fn measure(
    stage: &Stage,
    contender: Contender,
    rate: Option<u32>,
    rows: u64,
    of_instant: u64,
) -> anyhow::Result<Nine> {
    let database = stage.database().await?;
    prepare(contender, &database, rate).await?;
    // A day ahead, or now and then sent as a warm-up.
    schedule(contender, &database, of_instant + 1, rows, now() + 86_400.0).await?;
    let fake = FakeProcess::start_recording().await?;
    let instant = now() + (of_instant as f64 / 2000.0) + 20.0;
    schedule(contender, &database, 1, of_instant, instant).await?;
    sqlx::query("vacuum analyze")
        .execute(&database.pool)
        .await?;
    let crew = Crew::start_of(contender, fake, &database, WORKERS, 1, None)?;
    tokio::time::sleep(BEGINNING).await;
    let idle = spend(stage, &crew.pids(), IDLE).await?;
    let left = instant - now();
    anyhow::ensure!(left > 0.5, "loading took too long: the instant has passed");
    tokio::time::sleep(Duration::from_secs_f64(left - 0.2)).await;
    let accounts = Accounts::read(stage, &crew.pids()).await?;
    let watched = match rate {
        Some(rate) => of_instant.min(u64::from(rate) * WATCHED_SECS),
        None => of_instant,
    };
    crew.fake.wait_for(watched, LIMIT).await?;
    let spent = accounts.spent(stage, &crew.pids()).await?;
    let fake = crew.kill().await?;
    let moments: Vec<f64> = fake
        .arrivals()
        .await?
        .iter()
        .map(|arrival| arrival.at - instant)
        .collect();
    stage.drop_database(database).await?;
    let (first, last) = (moments.first().copied(), moments.get(watched as usize - 1));
    Ok(Nine {
        label: contender.label(),
        rate,
        ours: contender == OURS,
        each: spent.beyond(&idle).each(watched as f64),
        idle,
        first_ms: first.context("no send")? * 1e3,
        last_secs: *last.context("too few sends")?,
        moments,
    })
}

async fn prepare(
    contender: Contender,
    database: &Database,
    rate: Option<u32>,
) -> anyhow::Result<()> {
    if contender != OURS {
        return contender.load(database, 0).await;
    }
    load_wxnotify(&database.pool, 1, 0).await?;
    sqlx::query("update wechat_apps set rate_per_second = $1")
        .bind(rate.map(f64::from))
        .execute(&database.pool)
        .await?;
    Ok(())
}

/// Rows `first` to `last`, all for one moment, in seconds since 1970.
async fn schedule(
    contender: Contender,
    database: &Database,
    first: u64,
    last: u64,
    at: f64,
) -> anyhow::Result<()> {
    let at = format!("to_timestamp({at:.3})");
    let statement = match contender {
        Contender::Pgmq => pgmq::schedule_sql(first, last, &at),
        Contender::GraphileRust => graphile::schedule_sql(first, last, &at),
        Contender::River => river::schedule_sql(first, last, &at),
        _ => format!(
            "insert into pending_notifications (appid, openid, template_id, page, data, send_at) \
             select {}, {at} from generate_series({first}, {last}) n",
            message::columns_in_sql(1)
        ),
    };
    sqlx::query(AssertSqlSafe(statement))
        .execute(&database.pool)
        .await?;
    Ok(())
}

fn text(cases: &[Nine], rows: u64, of_instant: u64, drain_rate: f64) -> String {
    let mut table = Table::new([
        "contender",
        "first send, ms late",
        "last send, s late",
        "database CPU, µs a row",
        "worker CPU, µs a row",
        "WAL, bytes a row",
        "most in any second, of the rate",
        "kept",
        "two idle workers and database, ms CPU a second",
    ]);
    let last_bar = 1.1 * of_instant as f64 / drain_rate;
    for case in cases {
        let (database, workers) = case.idle.a_second();
        let idle = database + workers;
        let dash = || "–".to_owned();
        let (most, kept) = match case.rate {
            Some(rate) => {
                let rate = f64::from(rate);
                let most = most_within(&case.moments, 1.0) as f64 / rate;
                let kept = case.moments.len() as f64 / rate / case.last_secs.max(1.0);
                (
                    judged(most, 1.05, 3),
                    judged_from_below(kept.min(1.0), 0.96, 3),
                )
            }
            None => (dash(), dash()),
        };
        table.row([
            match case.rate {
                Some(rate) => format!("{}, {} a second", case.label, whole(f64::from(rate))),
                None => case.label.clone(),
            },
            format!("{:.0}", case.first_ms),
            if case.ours && case.rate.is_none() {
                judged(case.last_secs, last_bar, 1)
            } else {
                format!("{:.1}", case.last_secs)
            },
            format!("{:.0}", case.each.database_us),
            format!("{:.0}", case.each.workers_us),
            whole(case.each.wal_bytes),
            most,
            kept,
            if case.ours {
                judged(idle, IDLE_BAR, 1)
            } else {
                format!("{idle:.1}")
            },
        ]);
    }
    format!(
        "{}\n{} rows, {} of them for one instant; two workers, who drain {} rows/s when they find as many due. The bar of the last \
         send is 1.1 times what that takes. With a rate the first {WATCHED_SECS} s are watched. The idle bar is 0.6 of the {IDLE_BEFORE:.0} \
         ms that two took before.",
        table.markdown(),
        whole(rows as f64),
        whole(of_instant as f64),
        whole(drain_rate)
    )
}
