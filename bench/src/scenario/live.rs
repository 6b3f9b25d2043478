//! Rows come one by one at the rates of real traffic, each an INSERT of its own: what the queue costs beyond them, and how late
//! each is.

use std::time::Duration;

use anyhow::Context;
use sqlx::AssertSqlSafe;
use tokio::process::Child;

use crate::RunArgs;
use crate::contender::{Contender, load_wxnotify};
use crate::message;
use crate::producer::Producers;
use crate::report::{self, Table, whole};
use crate::stage::{Database, FakeProcess, Stage};
use crate::traffic::{Accounts, Commit, Lateness, Spent, by_receiver, judged, lateness, spend};

const RATES: [u32; 4] = [20, 50, 200, 1000];
/// Most CPU of the database for a row beyond the INSERT, in microseconds.
const DATABASE_US_BARS: [Option<f64>; 4] = [None, Some(700.0), Some(500.0), Some(250.0)];
/// From commit to arrival, in milliseconds.
const P50_BAR: f64 = 6.0;
const P99_BAR: f64 = 25.0;
/// How long rows come at each rate at scale 1, and at least.
const SPAN_SECS: f64 = 10.0;
const SPAN_SECS_MIN: f64 = 2.0;
/// Rows that warm connections, tokens and caches.
const WARM_UP: u64 = 100;
/// No row takes longer from its commit to its arrival, or from there to its record.
const LIMIT: Duration = Duration::from_secs(60);
const SETTLED_WITHIN: Duration = Duration::from_millis(500);
const CONCURRENCY: u32 = 64;

const CASES: [(Contender, u64); 7] = [
    (
        Contender::Wxnotify {
            concurrency: CONCURRENCY,
        },
        1,
    ),
    (
        Contender::Wxnotify {
            concurrency: CONCURRENCY,
        },
        50,
    ),
    (Contender::Pgmq, 1),
    (Contender::GraphileRust, 1),
    (Contender::River, 1),
    (Contender::Awa, 1),
    (Contender::GraphileNode, 1),
];

/// What one row cost at one rate.
struct Figures {
    /// The INSERT alone, without a worker.
    bare: Spent,
    /// All that was spent.
    whole: Spent,
    /// Beyond the idle worker, the INSERT included.
    busy: Spent,
    arrival: Lateness,
    settled: Option<Lateness>,
}

impl Figures {
    fn database_us(&self) -> f64 {
        self.busy.database_us - self.bare.database_us
    }
}

struct Case {
    contender: Contender,
    apps: u64,
    idle: Spent,
    at_rates: Vec<Figures>,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let span = Duration::from_secs_f64((SPAN_SECS * args.scale).max(SPAN_SECS_MIN));
    let mut cases = Vec::new();
    for (contender, apps) in CASES {
        if args.without.contains(&contender.name()) {
            continue;
        }
        eprintln!("  {}, {apps} mini-programs", contender.name());
        let case = measure(stage, contender, apps, span)
            .await
            .with_context(|| format!("{}, {apps} mini-programs", contender.name()))?;
        cases.push(case);
    }
    report::write(&args.docs, "live", &text(&cases, span))
}

async fn measure(
    stage: &Stage,
    contender: Contender,
    apps: u64,
    span: Duration,
) -> anyhow::Result<Case> {
    let bare = measure_bare(stage, contender, apps, span / 2).await?;
    let database = loaded(stage, contender, apps).await?;
    let fake = FakeProcess::start_recording().await?;
    let mut worker = contender
        .command_for_ever(&database.url, &fake.base_url, apps, None)?
        .kill_on_drop(true)
        .spawn()?;
    let mut producers = Producers::start(contender, &database, apps).await?;
    producers.produce(1, WARM_UP, 100).await?;
    fake.wait_for(WARM_UP, LIMIT).await?;
    tokio::time::sleep(SETTLED_WITHIN).await;
    let idle = spend(stage, &[pid(&worker)?], span / 2).await?;
    let mut seen = WARM_UP;
    let mut at_rates = Vec::new();
    for (place, rate) in RATES.into_iter().enumerate() {
        let rows = rows_of(rate, span);
        let accounts = Accounts::read(stage, &[pid(&worker)?]).await?;
        let commits = producers.produce(first_of(place), rows, rate).await?;
        seen += rows;
        fake.wait_for(seen, LIMIT).await?;
        tokio::time::sleep(SETTLED_WITHIN).await;
        let spent = accounts.spent(stage, &[pid(&worker)?]).await?;
        let arrivals = by_receiver(&fake.arrivals().await?, message::TEMPLATE_ID);
        at_rates.push(Figures {
            bare: bare[place],
            whole: spent.each(rows as f64),
            busy: spent.beyond(&idle).each(rows as f64),
            arrival: lateness(&commits, &arrivals)?,
            settled: settled(contender, &database, &commits).await?,
        });
    }
    worker.kill().await?;
    stage.drop_database(database).await?;
    Ok(Case {
        contender,
        apps,
        idle,
        at_rates,
    })
}

fn pid(worker: &Child) -> anyhow::Result<u32> {
    worker.id().context("the worker has ended")
}

fn rows_of(rate: u32, span: Duration) -> u64 {
    (f64::from(rate) * span.as_secs_f64()) as u64
}

/// Each rate has receivers of its own.
fn first_of(place: usize) -> u64 {
    (place as u64 + 1) * 1_000_000
}

async fn loaded(stage: &Stage, contender: Contender, apps: u64) -> anyhow::Result<Database> {
    let database = stage.database().await?;
    match contender {
        Contender::Wxnotify { .. } => load_wxnotify(&database.pool, apps, 0).await?,
        other => other.load(&database, 0).await?,
    }
    Ok(database)
}

/// What the INSERTs cost while nobody works, at each rate.
async fn measure_bare(
    stage: &Stage,
    contender: Contender,
    apps: u64,
    span: Duration,
) -> anyhow::Result<Vec<Spent>> {
    let database = loaded(stage, contender, apps).await?;
    let mut producers = Producers::start(contender, &database, apps).await?;
    producers.produce(1, WARM_UP, 100).await?;
    let idle = spend(stage, &[], span / 2).await?;
    let mut at_rates = Vec::new();
    for (place, rate) in RATES.into_iter().enumerate() {
        let rows = rows_of(rate, span);
        let accounts = Accounts::read(stage, &[]).await?;
        producers.produce(first_of(place), rows, rate).await?;
        let spent = accounts.spent(stage, &[]).await?;
        at_rates.push(spent.beyond(&idle).each(rows as f64));
    }
    stage.drop_database(database).await?;
    Ok(at_rates)
}

async fn settled(
    contender: Contender,
    database: &Database,
    commits: &[Commit],
) -> anyhow::Result<Option<Lateness>> {
    let Some(statement) = contender.settled_sql() else {
        return Ok(None);
    };
    let moments: Vec<(String, f64)> = sqlx::query_as(AssertSqlSafe(statement))
        .fetch_all(&database.pool)
        .await?;
    Ok(Some(lateness(commits, &moments.into_iter().collect())?))
}

fn text(cases: &[Case], span: Duration) -> String {
    let mut text = String::new();
    for (place, rate) in RATES.into_iter().enumerate() {
        text += &format!(
            "### {rate} a second\n\n{}\n",
            table(cases, place).markdown()
        );
        if let Some(said) = against_peers(cases, place) {
            text += &format!("{said}\n\n");
        }
    }
    let idle: Vec<String> = cases
        .iter()
        .map(|case| {
            let (database, worker) = case.idle.a_second();
            format!("{} {database:.1} and {worker:.1}", name(case))
        })
        .collect();
    text + &format!(
        "Rows come for {} s at each rate from four sessions. CPU and log are beyond the idle worker's and the bare INSERT's of the \
         same run; the INSERT's stands beside it, and all that was spent. Bars in parentheses. Idle, database and worker, ms CPU a second: {}.",
        span.as_secs(),
        idle.join("; ")
    )
}

fn name(case: &Case) -> String {
    match case.apps {
        1 => case.contender.label(),
        apps => format!("{}, {apps} mini-programs", case.contender.label()),
    }
}

fn table(cases: &[Case], place: usize) -> Table {
    let mut table = Table::new([
        "contender",
        "database CPU, µs a row",
        "the INSERT's",
        "in all",
        "worker CPU, µs a row",
        "commit to arrival, p50 ms",
        "p99 ms",
        "to recorded, p50 ms",
        "p99 ms",
        "WAL, bytes a row",
    ]);
    for case in cases {
        let figures = &case.at_rates[place];
        let ours = matches!(case.contender, Contender::Wxnotify { .. });
        let against = |value: f64, bar: Option<f64>, decimals: usize| match bar {
            Some(bar) if ours => judged(value, bar, decimals),
            _ => format!("{value:.decimals$}"),
        };
        let settled = |value: fn(&Lateness) -> f64| {
            let settled = figures.settled.as_ref().map(value);
            settled.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"))
        };
        table.row([
            name(case),
            against(figures.database_us(), DATABASE_US_BARS[place], 0),
            format!("{:.0}", figures.bare.database_us),
            format!("{:.0}", figures.whole.database_us),
            format!("{:.0}", figures.busy.workers_us),
            against(figures.arrival.p50, Some(P50_BAR), 1),
            against(figures.arrival.p99, Some(P99_BAR), 1),
            settled(|lateness| lateness.p50),
            settled(|lateness| lateness.p99),
            whole(figures.busy.wal_bytes - figures.bare.wal_bytes),
        ]);
    }
    table
}

/// Ours must be below every peer that keeps what it sent.
fn against_peers(cases: &[Case], place: usize) -> Option<String> {
    let of = |case: &Case| case.at_rates[place].database_us();
    let is_ours = |case: &&Case| matches!(case.contender, Contender::Wxnotify { .. });
    let ours = of(cases.iter().find(is_ours)?);
    let least = cases
        .iter()
        .filter(|case| !is_ours(case) && case.contender.keeps_history())
        .min_by(|one, other| of(one).total_cmp(&of(other)))?;
    Some(format!(
        "Of the least peer that keeps a history, {}: {}.",
        least.contender.label(),
        judged(ours / of(least), 1.0, 2)
    ))
}
