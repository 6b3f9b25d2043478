//! A worker has nothing to do; one row is inserted: how long until its request arrives. And what the idle worker costs.

use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, PgPool};

use crate::RunArgs;
use crate::contender::Contender;
use crate::contender::courier::Courier;
use crate::machine;
use crate::message;
use crate::report::{self, Table, percentile};
use crate::stage::{FakeProcess, Stage};

/// Longer than any worker stays awake after its last row.
const IDLE_BETWEEN: Duration = Duration::from_millis(150);
const IDLE: Duration = Duration::from_secs(10);
/// Rows that warm connections and caches and are not counted.
const WARM_UP: u64 = 20;

struct Wakes {
    milliseconds: Vec<f64>,
    /// CPU milliseconds per second of idling.
    worker_idle: f64,
    database_idle: f64,
    others: f64,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let mut table = Table::new([
        "contender",
        "p50, ms",
        "p99, ms",
        "idle worker, ms CPU a second",
        "idle database, ms CPU a second",
    ]);
    let mut others = Vec::new();
    let floor = measure_floor(stage, args.wakes).await?;
    table.row([
        "two commits, a NOTIFY, a request".to_owned(),
        format!("{:.1}", percentile(floor.iter().copied(), 0.5)),
        format!("{:.1}", percentile(floor.iter().copied(), 0.99)),
        "–".to_owned(),
        "–".to_owned(),
    ]);
    for contender in [
        Contender::Wxnotify { concurrency: 64 },
        Contender::GraphileRust,
        Contender::GraphileNode,
    ] {
        if args.without.contains(&contender.name()) {
            continue;
        }
        let wakes = measure(stage, contender, args.wakes)
            .await
            .with_context(|| contender.name())?;
        table.row([
            contender.label(),
            format!("{:.1}", percentile(wakes.milliseconds.iter().copied(), 0.5)),
            format!(
                "{:.1}",
                percentile(wakes.milliseconds.iter().copied(), 0.99)
            ),
            format!("{:.1}", wakes.worker_idle),
            format!("{:.1}", wakes.database_idle),
        ]);
        others.push(wakes.others);
    }
    let text = format!(
        "{}\n{} single INSERTs, {} ms and more apart; idling measured over {} s. {}",
        table.markdown(),
        args.wakes,
        IDLE_BETWEEN.as_millis(),
        IDLE.as_secs(),
        super::disturbance_of(others)
    );
    report::write(&args.docs, "wake", &text)
}

async fn measure(stage: &Stage, contender: Contender, wakes: u32) -> anyhow::Result<Wakes> {
    let database = stage.database().await?;
    contender.load(&database, 0).await?;
    let fake = FakeProcess::start(Duration::ZERO).await?;
    let mut command = match contender {
        // Without --until-empty.
        Contender::Wxnotify { concurrency } => crate::contender::wxnotify_for_ever(
            &database.url,
            &fake.base_url,
            concurrency,
            &[message::APPID],
        )?,
        other => other.command(&database.url, &fake.base_url, 0)?,
    };
    let mut child = command.kill_on_drop(true).spawn()?;
    let pid = child.id().context("it ended at once")?;
    for number in 1..=WARM_UP {
        wake(insert_sql(contender, number), &database.pool, &fake, number).await?;
    }
    let (idle, began) = (Idle::read(stage, pid), Instant::now());
    tokio::time::sleep(IDLE).await;
    let idle = Idle::read(stage, pid).since(&idle, began.elapsed());
    let mut milliseconds = Vec::new();
    for number in 1..=u64::from(wakes) {
        // Not in step with anybody's poll.
        tokio::time::sleep(IDLE_BETWEEN + Duration::from_millis(number * 37 % 101)).await;
        let number = WARM_UP + number;
        let took = wake(insert_sql(contender, number), &database.pool, &fake, number).await?;
        milliseconds.push(took.as_secs_f64() * 1e3);
    }
    child.kill().await?;
    stage.drop_database(database).await?;
    Ok(Wakes {
        milliseconds,
        worker_idle: idle.0,
        database_idle: idle.1,
        others: idle.2,
    })
}

/// The least that a queue which records a start before it sends can do: a producer's INSERT with a NOTIFY, and on its arrival
/// one durable row and one request. No queue, tables without indexes.
async fn measure_floor(stage: &Stage, wakes: u32) -> anyhow::Result<Vec<f64>> {
    let database = stage.database().await?;
    sqlx::raw_sql("create table queued (row text); create table started (at timestamptz)")
        .execute(&database.pool)
        .await?;
    let fake = FakeProcess::start(Duration::ZERO).await?;
    let mut listener = PgListener::connect(&database.url).await?;
    listener.listen("bell").await?;
    let courier = Courier::new(&fake.base_url, 1).await?;
    let pool = database.pool.clone();
    let worker = tokio::spawn(async move {
        for number in 1.. {
            listener.recv().await?;
            sqlx::query("insert into started values (now())")
                .execute(&pool)
                .await?;
            courier
                .send(serde_json::to_vec(&message::body(number))?)
                .await?;
        }
        anyhow::Ok(())
    });
    let mut milliseconds = Vec::new();
    for number in 1..=WARM_UP + u64::from(wakes) {
        tokio::time::sleep(IDLE_BETWEEN + Duration::from_millis(number * 37 % 101)).await;
        let statement = format!(
            "with queue as (insert into queued select {} from (values ({number})) v (n) returning 1) \
             select pg_notify('bell', '') from queue",
            message::body_in_sql()
        );
        let took = wake(statement, &database.pool, &fake, number).await?;
        if number > WARM_UP {
            milliseconds.push(took.as_secs_f64() * 1e3);
        }
    }
    worker.abort();
    stage.drop_database(database).await?;
    Ok(milliseconds)
}

/// Inserts row `number` and waits for its request. From before the INSERT until the arrival is known here.
async fn wake(
    statement: String,
    pool: &PgPool,
    fake: &FakeProcess,
    number: u64,
) -> anyhow::Result<Duration> {
    let arrival = fake.wait_for(number, Duration::from_secs(30));
    let insert = async {
        // The waiting request is on its way first.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let began = Instant::now();
        sqlx::query(AssertSqlSafe(statement)).execute(pool).await?;
        anyhow::Ok(began)
    };
    let (arrived, began) = tokio::join!(async { arrival.await.map(|()| Instant::now()) }, insert);
    Ok(arrived?.saturating_duration_since(began?))
}

fn insert_sql(contender: Contender, number: u64) -> String {
    match contender {
        Contender::Wxnotify { .. } => format!(
            "insert into pending_notifications (appid, openid, template_id, page, data) \
             select {} from (values ({number})) v (n)",
            message::columns_in_sql(1)
        ),
        _ => format!(
            "select graphile_worker.add_job('send', {}) from (values ({number})) v (n)",
            message::body_in_sql()
        ),
    }
}

/// CPU time at a moment.
struct Idle {
    worker: Duration,
    database: Duration,
    machine: Duration,
}

impl Idle {
    fn read(stage: &Stage, pid: u32) -> Self {
        Self {
            worker: machine::cpu_of(pid),
            database: stage.cpu(),
            machine: machine::cpu_of_machine(),
        }
    }

    /// Milliseconds of CPU a second of worker and database, and others' share of the machine.
    fn since(&self, before: &Self, elapsed: Duration) -> (f64, f64, f64) {
        let seconds = elapsed.as_secs_f64();
        let worker = (self.worker - before.worker).as_secs_f64();
        let database = self.database.saturating_sub(before.database).as_secs_f64();
        let machine = (self.machine - before.machine).as_secs_f64();
        let others = (machine - worker - database).max(0.0) / seconds / f64::from(machine::cores());
        (worker * 1e3 / seconds, database * 1e3 / seconds, others)
    }
}
