//! One measured drain: rows are loaded, a contender starts, and the clock runs from when its first requests are noticed
//! until the last row is recorded.

use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::{AssertSqlSafe, PgPool};

use crate::contender::Contender;
use crate::machine;
use crate::stage::{Database, FakeProcess, Stage};

/// A contender that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(180);

/// What one drain cost.
#[derive(Debug, Clone)]
pub struct Drain {
    /// The rows sent since the clock began.
    pub rows: u64,
    /// From the first request that was noticed to the last row recorded.
    pub took: Duration,
    pub database_cpu: Duration,
    pub wal_bytes: u64,
    pub worker_cpu: Duration,
    /// The most memory the worker had resident.
    pub worker_memory: u64,
    /// The share of the machine that went to processes that are no part of the measurement.
    pub others: f64,
}

impl Drain {
    pub fn rate(&self) -> f64 {
        self.rows as f64 / self.took.as_secs_f64()
    }

    pub fn database_us(&self) -> f64 {
        self.database_cpu.as_secs_f64() * 1e6 / self.rows as f64
    }

    pub fn worker_us(&self) -> f64 {
        self.worker_cpu.as_secs_f64() * 1e6 / self.rows as f64
    }

    pub fn wal_per_row(&self) -> f64 {
        self.wal_bytes as f64 / self.rows as f64
    }

    pub fn memory_mib(&self) -> f64 {
        self.worker_memory as f64 / 1024.0 / 1024.0
    }
}

/// Loads `rows` rows, lets the contender drain them and checks that each was sent once.
pub async fn measure(
    stage: &Stage,
    contender: &Contender,
    rows: u64,
    latency: Duration,
) -> anyhow::Result<Drain> {
    let database = stage.database().await?;
    contender
        .load(&database, rows)
        .await
        .with_context(|| format!("{}: loading", contender.name()))?;
    measure_loaded(stage, contender, rows, latency, database).await
}

/// The same for a database that holds the rows already.
pub async fn measure_loaded(
    stage: &Stage,
    contender: &Contender,
    rows: u64,
    latency: Duration,
    database: Database,
) -> anyhow::Result<Drain> {
    let fake = FakeProcess::start(latency).await?;
    let drained = run(stage, contender, rows, &database.url, &database.pool, &fake)
        .await
        .with_context(|| format!("{}: draining", contender.name()))?;
    if contender.sends() {
        let (arrived, accepted) = fake.counts().await?;
        anyhow::ensure!(
            arrived == rows && accepted == rows,
            "{}: {rows} rows, but {arrived} sends arrived and {accepted} were accepted",
            contender.name()
        );
    }
    stage.drop_database(database).await?;
    Ok(drained)
}

async fn run(
    stage: &Stage,
    contender: &Contender,
    rows: u64,
    url: &str,
    pool: &PgPool,
    fake: &FakeProcess,
) -> anyhow::Result<Drain> {
    let mut child = contender
        .command(url, &fake.base_url, rows)?
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().context("the contender ended at once")?;
    if contender.sends() {
        fake.wait_for(1, Duration::from_secs(30)).await?;
    } else {
        contender.wait_for_first(pool, rows).await?;
    }
    // On a busy machine we learn late of the first request: what was sent by now is not counted.
    let sent_before = if contender.sends() {
        fake.counts().await?.0
    } else {
        0
    };
    anyhow::ensure!(sent_before < rows, "{rows} rows are too few to measure");
    let began = Instant::now();
    let before = Accounts::read(stage, pid, fake.pid()).await?;
    let mut memory = 0;
    let is_done = contender.is_done_sql(rows);
    loop {
        anyhow::ensure!(began.elapsed() < LIMIT, "not done within {LIMIT:?}");
        memory = memory.max(machine::peak_memory(pid).unwrap_or_default());
        let sent = !contender.sends() || fake.has_seen(rows, rows, Duration::ZERO).await?;
        let recorded = match &is_done {
            Some(statement) if sent => {
                sqlx::query_scalar::<_, bool>(AssertSqlSafe(statement.clone()))
                    .fetch_one(pool)
                    .await?
            }
            _ => true,
        };
        if sent && recorded {
            break;
        }
        tokio::time::sleep(Duration::from_millis(if sent { 3 } else { 10 })).await;
    }
    let took = began.elapsed();
    let after = Accounts::read(stage, pid, fake.pid()).await?;
    memory = memory.max(machine::peak_memory(pid).unwrap_or_default());
    contender.end(&mut child, pid).await?;
    let ours = (after.database + after.worker + after.fake + after.harness)
        .saturating_sub(before.database + before.worker + before.fake + before.harness);
    let all = after.machine - before.machine;
    Ok(Drain {
        rows: rows - sent_before,
        took,
        database_cpu: after.database.saturating_sub(before.database),
        wal_bytes: after.wal_bytes - before.wal_bytes,
        worker_cpu: after.worker.saturating_sub(before.worker),
        worker_memory: memory,
        others: all.saturating_sub(ours).as_secs_f64()
            / took.as_secs_f64()
            / f64::from(machine::cores()),
    })
}

/// CPU time and log written up to a moment.
struct Accounts {
    database: Duration,
    worker: Duration,
    fake: Duration,
    harness: Duration,
    machine: Duration,
    wal_bytes: u64,
}

impl Accounts {
    async fn read(stage: &Stage, worker: u32, fake: u32) -> anyhow::Result<Self> {
        Ok(Self {
            wal_bytes: stage.wal_bytes().await?,
            database: stage.cpu(),
            worker: machine::cpu_of(worker),
            fake: machine::cpu_of(fake),
            harness: machine::cpu_of(std::process::id()),
            machine: machine::cpu_of_machine(),
        })
    }
}
