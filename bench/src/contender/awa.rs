//! The crate awa, with its queue storage and 256 jobs in flight.

use std::time::Duration;

use awa::{Client, InsertOpts, InsertParams, JobArgs, JobError, JobResult, QueueConfig, RateLimit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx_for_awa::postgres::{PgPool, PgPoolOptions};

use super::courier::Courier;
use crate::message;

#[derive(Debug, Serialize, Deserialize, JobArgs)]
struct SendMessage {
    body: Value,
}

/// How often it looks for jobs besides notifications, and how many times a second that is.
const POLL: Duration = Duration::from_millis(50);
const POLLS_PER_SECOND: u32 = 20;

pub async fn connect(database_url: &str) -> anyhow::Result<PgPool> {
    Ok(PgPoolOptions::new()
        .max_connections(20)
        .connect(database_url)
        .await?)
}

pub async fn load(database_url: &str, rows: u64) -> anyhow::Result<()> {
    let pool = connect(database_url).await?;
    awa::migrations::run(&pool).await?;
    let jobs: Vec<InsertParams> = (1..=rows)
        .map(|number| {
            let body = message::body(number);
            Ok(InsertParams {
                kind: SendMessage::kind().to_owned(),
                args: serde_json::to_value(SendMessage { body })?,
                opts: InsertOpts {
                    queue: "send".to_owned(),
                    ..InsertOpts::default()
                },
            })
        })
        .collect::<anyhow::Result<_>>()?;
    for chunk in jobs.chunks(2000) {
        awa::insert_many_copy_from_pool(&pool, chunk).await?;
    }
    pool.close().await;
    Ok(())
}

/// Inserts row `number`; urgent ones come first.
pub async fn insert_one(pool: &PgPool, number: u64, urgent: bool) -> anyhow::Result<()> {
    let job = SendMessage {
        body: message::body_of(number, urgent),
    };
    let opts = InsertOpts {
        queue: "send".to_owned(),
        priority: if urgent { 1 } else { 2 },
        ..InsertOpts::default()
    };
    awa::insert_with(pool, &job, opts).await?;
    Ok(())
}

/// The receiver and the moment of record of each finished job.
pub const SETTLED_SQL: &str = "select args->'body'->>'touser', extract(epoch from finalized_at)::float8 \
     from awa.jobs where state = 'completed'";

/// Completed jobs are counted through awa's own view of all jobs.
pub fn is_done_sql(rows: u64) -> String {
    format!("select count(*) >= {rows} from awa.jobs where state = 'completed'")
}

/// With a `rate` a burst is what falls due between two polls.
pub async fn work(
    database_url: &str,
    courier: Courier,
    concurrency: u32,
    rate: Option<u32>,
) -> anyhow::Result<()> {
    let config = QueueConfig {
        max_workers: concurrency,
        poll_interval: POLL,
        rate_limit: rate.map(|rate| RateLimit {
            max_rate: f64::from(rate),
            burst: rate.div_ceil(POLLS_PER_SECOND),
        }),
        ..QueueConfig::default()
    };
    let client = Client::builder(connect(database_url).await?)
        .queue("send", config)
        .register::<SendMessage, _, _>(move |message: SendMessage, _context| {
            let courier = courier.clone();
            async move {
                let body = serde_json::to_vec(&message.body)
                    .map_err(|error| JobError::terminal(error.to_string()))?;
                courier
                    .send(body)
                    .await
                    .map_err(|error| JobError::retryable_msg(error.to_string()))?;
                Ok(JobResult::Completed)
            }
        })
        .build()?;
    client.start().await?;
    std::future::pending().await
}
