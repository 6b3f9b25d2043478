//! The crate graphile_worker with what its documentation offers for throughput: four local queues that fetch in batches,
//! completions gathered for 5 ms.

use std::sync::OnceLock;
use std::time::Duration;

use graphile_worker::{
    IntoTaskHandlerResult, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::courier::Courier;
use crate::message;
use crate::stage::Database;

static COURIER: OnceLock<Courier> = OnceLock::new();

#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Send(Value);

impl TaskHandler for Send {
    const IDENTIFIER: &'static str = "send";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        let courier = COURIER.get().expect("set before the worker runs");
        let body = serde_json::to_vec(&self.0).map_err(|error| error.to_string())?;
        courier.send(body).await.map_err(|error| error.to_string())
    }
}

/// What adds jobs numbered `first` to `last` that are due at an SQL expression.
pub fn schedule_sql(first: u64, last: u64, at: &str) -> String {
    format!(
        "select count(*) from graphile_worker.add_jobs(array(\
         select row('send', {}, null, {at}, null, null, null, null)::graphile_worker.job_spec \
         from generate_series({first}, {last}) n))",
        message::body_in_sql()
    )
}

pub async fn load(database: &Database, rows: u64) -> anyhow::Result<()> {
    // Making a worker makes the schema.
    WorkerOptions::default()
        .database_url(&database.url)
        .max_pg_conn(2)
        .define_job::<Send>()
        .init()
        .await?;
    sqlx::query(AssertSqlSafe(schedule_sql(1, rows, "now()")))
        .execute(&database.pool)
        .await?;
    Ok(())
}

pub async fn work(database_url: &str, courier: Courier, concurrency: usize) -> anyhow::Result<()> {
    COURIER.get_or_init(|| courier);
    let queues = LocalQueueConfig::default()
        .with_size(512)
        .with_queue_count(4);
    let worker = WorkerOptions::default()
        .database_url(database_url)
        .max_pg_conn(20)
        .concurrency(concurrency)
        .local_queue(queues)
        .complete_job_batch_delay(Duration::from_millis(5))
        .define_job::<Send>()
        .init()
        .await?;
    worker.run().await?;
    Ok(())
}
