//! A thousand mini-programs with a few rows each against one with many, and what a thousand idle ones cost.

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::RunArgs;
use crate::contender::{load_wxnotify, wxnotify_for_ever};
use crate::machine;
use crate::message;
use crate::report::{self, Table, median, whole};
use crate::stage::{FakeProcess, Stage};

const APPS: u64 = 1000;
const IDLE: Duration = Duration::from_secs(10);

struct Run {
    rate: f64,
    /// Milliseconds of CPU a second while idle.
    worker_idle: f64,
    database_idle: f64,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds.min(2) {
        one.push(measure(stage, 1, args.rows).await?);
        many.push(measure(stage, APPS, args.rows).await?);
    }
    let mut table = Table::new([
        "mini-programs",
        "rows/s",
        "of one's rate",
        "idle worker, ms CPU a second",
        "idle database, ms CPU a second",
    ]);
    for (apps, runs) in [(1, &one), (APPS, &many)] {
        let ratios = runs.iter().zip(&one).map(|(run, one)| run.rate / one.rate);
        table.row([
            whole(apps as f64),
            whole(median(runs.iter().map(|run| run.rate))),
            format!("{:.2}", median(ratios)),
            format!("{:.1}", median(runs.iter().map(|run| run.worker_idle))),
            format!("{:.1}", median(runs.iter().map(|run| run.database_idle))),
        ]);
    }
    let text = format!(
        "{}\n{} rows in all, shared evenly; {} rounds. The thousand fetch a thousand access tokens first; that is part of their time.",
        table.markdown(),
        whole(args.rows as f64),
        args.rounds.min(2)
    );
    report::write(&args.docs, "apps", &text)
}

async fn measure(stage: &Stage, apps: u64, rows: u64) -> anyhow::Result<Run> {
    let database = stage.database().await?;
    load_wxnotify(&database.pool, apps, rows).await?;
    sqlx::query("vacuum analyze")
        .execute(&database.pool)
        .await?;
    let fake = FakeProcess::start(Duration::ZERO).await?;
    let appids: Vec<String> = (1..=apps).map(message::appid).collect();
    let appids: Vec<&str> = appids.iter().map(String::as_str).collect();
    let mut child = wxnotify_for_ever(&database.url, &fake.base_url, 64, &appids)?
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().context("the worker ended at once")?;
    fake.wait_for(1, Duration::from_secs(60)).await?;
    let began = Instant::now();
    fake.wait_for(rows, Duration::from_secs(180)).await?;
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    // Settles and the first moments of sleep are no idling.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = (machine::cpu_of(pid), stage.cpu());
    tokio::time::sleep(IDLE).await;
    let idle = |after: Duration, before: Duration| {
        after.saturating_sub(before).as_secs_f64() * 1e3 / IDLE.as_secs_f64()
    };
    let run = Run {
        rate,
        worker_idle: idle(machine::cpu_of(pid), before.0),
        database_idle: idle(stage.cpu(), before.1),
    };
    child.kill().await?;
    stage.drop_database(database).await?;
    Ok(run)
}
