//! A thousand mini-programs with a few rows each against one with many, and what a thousand idle ones cost.

use std::time::{Duration, Instant};

use crate::RunArgs;
use crate::contender::{insert_rows, load_wxnotify};
use crate::crew::Crew;
use crate::machine;
use crate::report::{self, Table, median, whole};
use crate::stage::Stage;

const APPS: u64 = 1000;
const IDLE: Duration = Duration::from_secs(10);

struct Run {
    rate: f64,
    /// Milliseconds of CPU a second while idle.
    worker_idle: f64,
    database_idle: f64,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let (mut one, mut many, mut strange) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds.min(2) {
        one.push(measure(stage, 1, args.rows, true).await?);
        many.push(measure(stage, APPS, args.rows, true).await?);
        strange.push(measure(stage, APPS, args.rows, false).await?);
    }
    let mut table = Table::new([
        "mini-programs",
        "rows/s",
        "of one's rate",
        "idle worker, ms CPU a second",
        "idle database, ms CPU a second",
    ]);
    for (label, runs) in [
        ("1", &one),
        ("1,000", &many),
        ("1,000, their access tokens still to be fetched", &strange),
    ] {
        let ratios = runs.iter().zip(&one).map(|(run, one)| run.rate / one.rate);
        table.row([
            label.to_owned(),
            whole(median(runs.iter().map(|run| run.rate))),
            format!("{:.2}", median(ratios)),
            format!("{:.1}", median(runs.iter().map(|run| run.worker_idle))),
            format!("{:.1}", median(runs.iter().map(|run| run.database_idle))),
        ]);
    }
    let text = format!(
        "{}\n{} rows in all, shared evenly and inserted in one transaction while the worker waits; {} rounds.",
        table.markdown(),
        whole(args.rows as f64),
        args.rounds.min(2)
    );
    report::write(&args.docs, "apps", &text)
}

/// `known`: each mini-program has sent a row before, so that the worker has its token.
async fn measure(stage: &Stage, apps: u64, rows: u64, known: bool) -> anyhow::Result<Run> {
    let database = stage.database().await?;
    let before = if known { apps } else { 0 };
    load_wxnotify(&database.pool, apps, before).await?;
    sqlx::query("vacuum analyze")
        .execute(&database.pool)
        .await?;
    let crew = Crew::start(&database, 1, 64, apps).await?;
    crew.fake.wait_for(before, Duration::from_secs(60)).await?;
    // Everybody sleeps when the rows come.
    tokio::time::sleep(Duration::from_secs(1)).await;
    insert_rows(&database.pool, apps, before + 1, before + rows).await?;
    let began = Instant::now();
    crew.fake
        .wait_for(before + rows, Duration::from_secs(180))
        .await?;
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    // Settles and the first moments of sleep are no idling.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = (machine::cpu_of(crew.pid()), stage.cpu());
    tokio::time::sleep(IDLE).await;
    let idle = |after: Duration, before: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e3 / IDLE.as_secs_f64()
    };
    let run = Run {
        rate,
        worker_idle: idle(machine::cpu_of(crew.pid()), before.0),
        database_idle: idle(stage.cpu(), before.1),
    };
    crew.end().await?;
    stage.drop_database(database).await?;
    Ok(run)
}
