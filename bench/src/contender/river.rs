//! The crate riverqueue with what its documentation offers for low latency: fetches 5 ms apart instead of 100, a poll each
//! 50 ms besides notifications; the client gathers completions for 10 ms by itself.

use std::time::Duration;

use riverqueue::migrate::PostgresMigrator;
use riverqueue::sqlx::PgPool;
use riverqueue::sqlx::postgres::PgPoolOptions;
use riverqueue::{BoxError, Client, Job, JobArgs, QueueConfig, WorkContext, WorkOutcome, Workers};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::courier::Courier;
use crate::message;
use crate::stage::Database;

const COOLDOWN: Duration = Duration::from_millis(5);
const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "send_message")]
pub struct SendMessage {
    body: Value,
}

/// A client that inserts only.
pub fn producer(pool: PgPool) -> anyhow::Result<Client> {
    Ok(Client::builder(pool).fetch_cooldown(COOLDOWN).build()?)
}

/// The job for row `number`.
pub fn job(number: u64) -> SendMessage {
    SendMessage {
        body: message::body(number),
    }
}

pub async fn load(database: &Database, rows: u64) -> anyhow::Result<()> {
    PostgresMigrator::new(database.pool.clone())
        .migrate_up()
        .await?;
    let client = producer(database.pool.clone())?;
    let numbers: Vec<u64> = (1..=rows).collect();
    for chunk in numbers.chunks(1000) {
        let jobs: Vec<SendMessage> = chunk.iter().map(|number| job(*number)).collect();
        client.insert_many(jobs).await?;
    }
    Ok(())
}

/// Jobs numbered `first` to `last` that are due at an SQL expression; the leader makes them available when they are.
pub fn schedule_sql(first: u64, last: u64, at: &str) -> String {
    format!(
        "insert into river_job (args, kind, max_attempts, queue, state, scheduled_at) \
         select jsonb_build_object('body', {}), '{}', 25, 'default', 'scheduled', {at} from generate_series({first}, {last}) n",
        message::body_in_sql(),
        SendMessage::KIND
    )
}

pub fn is_done_sql() -> String {
    "select not exists (select from river_job where state <> 'completed')".to_owned()
}

/// The receiver and the moment of record of each finished job.
pub const SETTLED_SQL: &str = "select args->'body'->>'touser', extract(epoch from finalized_at)::float8 \
     from river_job where state = 'completed'";

pub async fn work(database_url: &str, courier: Courier, concurrency: usize) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .connect(database_url)
        .await?;
    let mut workers = Workers::new();
    workers.add_fn(move |_context: WorkContext, job: Job<SendMessage>| {
        let courier = courier.clone();
        async move {
            courier.send(serde_json::to_vec(&job.args.body)?).await?;
            Ok::<_, BoxError>(WorkOutcome::Complete)
        }
    })?;
    let queue = QueueConfig::new(concurrency).with_fetch_poll_interval(POLL);
    let client = Client::builder(pool)
        .workers(workers)
        .fetch_cooldown(COOLDOWN)
        .queue("default", queue)
        .build()?;
    let mut run = client.start()?;
    run.wait().await?;
    Ok(())
}
