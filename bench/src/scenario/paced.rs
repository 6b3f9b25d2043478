//! A mini-program with a rate and a deep backlog: what each send costs, whether the rate is kept and never exceeded, how long an
//! urgent row waits, and what a worker that is killed leaves in doubt.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::RunArgs;
use crate::contender::{Contender, insert_rows, load_wxnotify};
use crate::crew::Crew;
use crate::drain::{self, Drain};
use crate::message;
use crate::producer::Producer;
use crate::report::{self, Table, whole};
use crate::stage::{Arrival, Database, FakeProcess, Stage};
use crate::traffic::{
    Accounts, Commit, Lateness, Spent, by_receiver, judged, judged_from_below, lateness,
    most_within, now, spend,
};

const RATES: [u32; 2] = [100, 1000];
const WORKERS: [u32; 3] = [1, 2, 4];
const CONCURRENCY: u32 = 64;
const OURS: Contender = Contender::Wxnotify {
    concurrency: CONCURRENCY,
};
/// Peers that can hold themselves to a rate.
const PEERS: [Contender; 2] = [Contender::Pgmq, Contender::Awa];
/// How long each of the three stretches of a case lasts at scale 1, and at least.
const SPAN_SECS: f64 = 10.0;
const SPAN_SECS_MIN: f64 = 3.0;
/// Rows that wait at scale 1; never fewer than the case sends.
const BACKLOG: f64 = 200_000.0;
const URGENT_EVERY: Duration = Duration::from_millis(100);
/// Urgent rows of users of their own are numbered from here.
const FIRST_URGENT: u64 = 900_000_000;
/// Nothing takes longer to begin.
const LIMIT: Duration = Duration::from_secs(60);
/// Lets a worker start and settle in before anything is measured.
const BEGINNING: Duration = Duration::from_secs(2);

/// One case: who, how many, at which rate, and what was seen.
struct Paced {
    contender: Contender,
    workers: u32,
    rate: u32,
    /// For one send, beyond the idle workers'.
    each: Spent,
    /// Most arrivals in any second, of the rate.
    most: f64,
    /// Sends of what the rate allows.
    kept: f64,
    /// Urgent rows of other users.
    urgent: Option<Lateness>,
    /// Urgent rows of users whose bulk row is about to be sent.
    same_user: Option<Lateness>,
    doubts: Option<Doubts>,
}

/// What workers that were killed had started and not recorded.
struct Doubts {
    all: usize,
    /// Those whose request never arrived.
    unsent: usize,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let span = Duration::from_secs_f64((SPAN_SECS * args.scale).max(SPAN_SECS_MIN));
    let backlog = (BACKLOG * args.scale) as u64;
    let drain = drain::measure(stage, &OURS, args.rows, Duration::ZERO).await?;
    let mut cases = Vec::new();
    for rate in RATES {
        // Enough for the three stretches and a bucket that was full.
        let rows = backlog.max((f64::from(rate) * (span.as_secs_f64() * 3.0 + 15.0)) as u64);
        for workers in WORKERS {
            eprintln!("  {rate} a second, {workers} workers");
            cases.push(measure(stage, OURS, workers, rate, rows, span).await?);
        }
        for peer in PEERS {
            if args.without.contains(&peer.name()) {
                continue;
            }
            eprintln!("  {rate} a second, {}", peer.name());
            let case = measure(stage, peer, 1, rate, rows, span).await;
            cases.push(case.with_context(|| peer.name())?);
        }
    }
    report::write(&args.docs, "paced", &text(&cases, &drain, backlog, span))
}

async fn measure(
    stage: &Stage,
    contender: Contender,
    workers: u32,
    rate: u32,
    rows: u64,
    span: Duration,
) -> anyhow::Result<Paced> {
    let idle = measure_idle(stage, contender, workers, rate, span / 2).await?;
    let database = loaded(stage, contender, rate, rows).await?;
    let crew = start(contender, &database, workers, rate).await?;
    crew.fake.wait_for(1, LIMIT).await?;
    tokio::time::sleep(BEGINNING).await;

    let accounts = Accounts::read(stage, &crew.pids()).await?;
    let from = now();
    tokio::time::sleep(span).await;
    let to = now();
    let spent = accounts.spent(stage, &crew.pids()).await?;

    let others = insert_urgent(contender, &database, &crew, span, Receiver::Another).await?;
    let same = match contender {
        Contender::Wxnotify { .. } => {
            insert_urgent(contender, &database, &crew, span, Receiver::OfNextBulkRow).await?
        }
        _ => Vec::new(),
    };
    let (doubts, arrivals) = kill(contender, &database, crew).await?;
    stage.drop_database(database).await?;

    let moments: Vec<f64> = arrivals.iter().map(|arrival| arrival.at).collect();
    let sends = moments.iter().filter(|at| (from..to).contains(*at)).count() as f64;
    anyhow::ensure!(sends > 0.0, "nothing was sent");
    let urgent = by_receiver(&arrivals, message::URGENT_TEMPLATE_ID);
    let waits = |commits: &[Commit]| {
        (!commits.is_empty())
            .then(|| lateness(commits, &urgent))
            .transpose()
    };
    Ok(Paced {
        contender,
        workers,
        rate,
        each: spent.beyond(&idle).each(sends),
        most: most_within(&moments, 1.0) as f64 / f64::from(rate),
        kept: sends / (f64::from(rate) * (to - from)),
        urgent: waits(&others)?,
        same_user: waits(&same)?,
        doubts,
    })
}

/// Workers that know the rate and have nothing to do.
async fn measure_idle(
    stage: &Stage,
    contender: Contender,
    workers: u32,
    rate: u32,
    span: Duration,
) -> anyhow::Result<Spent> {
    let database = loaded(stage, contender, rate, 1).await?;
    let crew = start(contender, &database, workers, rate).await?;
    crew.fake.wait_for(1, LIMIT).await?;
    tokio::time::sleep(BEGINNING).await;
    let idle = spend(stage, &crew.pids(), span).await?;
    crew.end().await?;
    stage.drop_database(database).await?;
    Ok(idle)
}

async fn loaded(
    stage: &Stage,
    contender: Contender,
    rate: u32,
    rows: u64,
) -> anyhow::Result<Database> {
    let database = stage.database().await?;
    if let Contender::Wxnotify { .. } = contender {
        load_wxnotify(&database.pool, 1, 0).await?;
        sqlx::query("update wechat_apps set rate_per_second = $1")
            .bind(f64::from(rate))
            .execute(&database.pool)
            .await?;
        insert_rows(&database.pool, 1, 1, rows).await?;
        sqlx::query("vacuum analyze")
            .execute(&database.pool)
            .await?;
    } else {
        contender.load(&database, rows).await?;
    }
    Ok(database)
}

async fn start(
    contender: Contender,
    database: &Database,
    workers: u32,
    rate: u32,
) -> anyhow::Result<Crew> {
    let fake = FakeProcess::start_recording().await?;
    Crew::start_of(contender, fake, database, workers, 1, Some(rate))
}

/// Whose urgent rows come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiver {
    Another,
    OfNextBulkRow,
}

/// Inserts an urgent row each 100 ms for `span`, then waits until all of them have arrived.
async fn insert_urgent(
    contender: Contender,
    database: &Database,
    crew: &Crew,
    span: Duration,
    receiver: Receiver,
) -> anyhow::Result<Vec<Commit>> {
    let mut producer = Producer::start(contender, database, 1).await?;
    let mut ticks = tokio::time::interval(URGENT_EVERY);
    let mut used = HashSet::new();
    let mut commits: Vec<Commit> = Vec::new();
    let began = Instant::now();
    while began.elapsed() < span {
        ticks.tick().await;
        let number = match receiver {
            Receiver::Another => FIRST_URGENT + commits.len() as u64,
            // Bulk rows go in the order of their numbers: this one is leased by now, or will be in a moment.
            Receiver::OfNextBulkRow => crew.fake.counts().await?.0 + 2,
        };
        if used.insert(number) {
            commits.push(producer.insert(number, true).await?);
        }
    }
    // Those of the end have a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(commits)
}

/// Kills the workers amid their work. Returns what they had started and not recorded, and every arrival.
async fn kill(
    contender: Contender,
    database: &Database,
    crew: Crew,
) -> anyhow::Result<(Option<Doubts>, Vec<Arrival>)> {
    let fake = crew.kill().await?;
    let arrivals = fake.arrivals().await?;
    if !matches!(contender, Contender::Wxnotify { .. }) {
        return Ok((None, arrivals));
    }
    let started: Vec<String> =
        sqlx::query_scalar("select openid from notifications where status = 'sending'")
            .fetch_all(&database.pool)
            .await?;
    let arrived: HashSet<&str> = arrivals.iter().map(|each| each.openid.as_str()).collect();
    let unsent = started
        .iter()
        .filter(|openid| !arrived.contains(openid.as_str()))
        .count();
    let doubts = Doubts {
        all: started.len(),
        unsent,
    };
    Ok((Some(doubts), arrivals))
}

fn text(cases: &[Paced], drain: &Drain, backlog: u64, span: Duration) -> String {
    let mut costs = Table::new([
        "sends a second, contender",
        "database CPU, µs a send",
        "of the drain's",
        "worker CPU, µs a send",
        "of the drain's",
        "WAL, bytes a send",
        "most in any second, of the rate",
        "kept",
    ]);
    let mut waits = Table::new([
        "sends a second, contender",
        "urgent, p50 ms",
        "p99 ms",
        "of a user whose bulk row is next, p50 ms",
        "most ms",
        "started and unrecorded when killed",
        "of them never sent",
    ]);
    for case in cases {
        costs.row(cost_cells(case, drain));
        waits.row(wait_cells(case));
    }
    format!(
        "{}\n{}\n{} rows wait, {} s each without urgent rows, with urgent rows of other users, and of users whose bulk row is next, \
         one each {} ms. CPU and log are beyond the idle workers'; the drain of the same run: {:.0} µs of the database and {:.0} µs of \
         the worker. Bars in parentheses.",
        costs.markdown(),
        waits.markdown(),
        whole(backlog as f64),
        span.as_secs(),
        URGENT_EVERY.as_millis(),
        drain.database_us(),
        drain.worker_us()
    )
}

fn is_ours(case: &Paced) -> bool {
    matches!(case.contender, Contender::Wxnotify { .. })
}

fn label(case: &Paced) -> String {
    match case.workers {
        1 if is_ours(case) => format!("{}, wxnotify", whole(f64::from(case.rate))),
        1 => format!(
            "{}, {}",
            whole(f64::from(case.rate)),
            case.contender.label()
        ),
        workers => format!("{}, {workers} workers", whole(f64::from(case.rate))),
    }
}

fn cost_cells(case: &Paced, drain: &Drain) -> [String; 8] {
    let of_drain = (
        case.each.database_us / drain.database_us(),
        case.each.workers_us / drain.worker_us(),
    );
    let judges = is_ours(case) && case.workers == 1;
    let plain = |value: f64, decimals: usize| format!("{value:.decimals$}");
    let at_thousand = judges && case.rate == 1000;
    [
        label(case),
        if judges && case.rate == 100 {
            judged(case.each.database_us, 110.0, 0)
        } else {
            plain(case.each.database_us, 0)
        },
        if at_thousand {
            judged(of_drain.0, 1.6, 2)
        } else {
            plain(of_drain.0, 2)
        },
        plain(case.each.workers_us, 0),
        if at_thousand {
            judged(of_drain.1, 2.0, 2)
        } else {
            plain(of_drain.1, 2)
        },
        whole(case.each.wal_bytes),
        if is_ours(case) {
            judged(case.most, 1.05, 3)
        } else {
            plain(case.most, 3)
        },
        if is_ours(case) {
            judged_from_below(case.kept, 0.96, 3)
        } else {
            plain(case.kept, 3)
        },
    ]
}

fn wait_cells(case: &Paced) -> [String; 7] {
    let dash = || "–".to_owned();
    let figure = |value: Option<f64>, bar: f64| match value {
        Some(value) if is_ours(case) => judged(value, bar, 0),
        Some(value) => format!("{value:.0}"),
        None => dash(),
    };
    let same = |value: Option<f64>| value.map_or_else(dash, |value| format!("{value:.0}"));
    let doubts = case.doubts.as_ref();
    [
        label(case),
        figure(case.urgent.map(|waits| waits.p50), 30.0),
        figure(case.urgent.map(|waits| waits.p99), 100.0),
        same(case.same_user.map(|waits| waits.p50)),
        figure(case.same_user.map(|waits| waits.most), 500.0),
        doubts.map_or_else(dash, |doubts| doubts.all.to_string()),
        doubts.map_or_else(dash, |doubts| {
            judged(doubts.unsent as f64, f64::from(case.rate) * 0.1, 0)
        }),
    ]
}
