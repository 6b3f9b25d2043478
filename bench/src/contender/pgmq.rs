//! The least a queue on Postgres can do: pgmq's functions in a loop of read a batch, send it, delete it. No history, no
//! retry, no order for one user; a crash sends the batch again.

use sqlx::postgres::PgPoolOptions;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgPool};

use std::time::Duration;

use super::courier::Courier;
use crate::message;

/// A message and its number.
type Message = (i64, Json<Box<serde_json::value::RawValue>>);

/// How often a paced loop reads, and how many times a second that is.
const TICK: Duration = Duration::from_millis(50);
const TICKS_PER_SECOND: u32 = 20;

/// Loops beside each other; each has its share of the concurrency in flight.
const LOOPS: usize = 4;

pub async fn load(pool: &PgPool, rows: u64) -> anyhow::Result<()> {
    pgmq::PGMQueueExt::new_with_pool(pool.clone())
        .await
        .install_sql_from_embedded()
        .await?;
    sqlx::query("select pgmq.create('send'), pgmq.create('urgent')")
        .execute(pool)
        .await?;
    if rows > 0 {
        let statement = schedule_sql(1, rows, "clock_timestamp()");
        sqlx::query(AssertSqlSafe(statement)).execute(pool).await?;
    }
    Ok(())
}

/// What sends messages numbered `first` to `last` that are due at an SQL expression.
pub fn schedule_sql(first: u64, last: u64, at: &str) -> String {
    format!(
        "select count(*) from pgmq.send_batch('send', array(select {} from generate_series({first}, {last}) n), {at})",
        message::body_in_sql().replace("::json", "::jsonb")
    )
}

pub async fn work(database_url: &str, courier: Courier, concurrency: usize) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(u32::try_from(LOOPS)?)
        .test_before_acquire(false)
        .connect(database_url)
        .await?;
    let loops = (0..LOOPS).map(|_| {
        let (pool, courier) = (pool.clone(), courier.clone());
        tokio::spawn(async move { read_send_delete(&pool, &courier, concurrency / LOOPS).await })
    });
    for ended in futures::future::join_all(loops).await {
        ended??;
    }
    // The measurement ends when the table is empty; nothing is left to do.
    std::future::pending().await
}

async fn read_send_delete(pool: &PgPool, courier: &Courier, batch: usize) -> anyhow::Result<()> {
    loop {
        let messages = read(pool, "send", batch).await?;
        if messages.is_empty() {
            return Ok(());
        }
        send_and_delete(pool, courier, "send", messages).await?;
    }
}

async fn read(pool: &PgPool, queue: &str, batch: usize) -> anyhow::Result<Vec<Message>> {
    Ok(
        sqlx::query_as("select msg_id, message from pgmq.read($1, 30, $2)")
            .bind(queue)
            .bind(i32::try_from(batch)?)
            .fetch_all(pool)
            .await?,
    )
}

async fn send_and_delete(
    pool: &PgPool,
    courier: &Courier,
    queue: &str,
    messages: Vec<Message>,
) -> anyhow::Result<()> {
    let mut ids = Vec::with_capacity(messages.len());
    let mut sends = tokio::task::JoinSet::new();
    for (id, Json(body)) in messages {
        ids.push(id);
        let courier = courier.clone();
        sends.spawn(async move { courier.send(body.get().to_owned().into_bytes()).await });
    }
    while let Some(sent) = sends.join_next().await {
        sent??;
    }
    sqlx::query("select pgmq.delete($1, $2::bigint[])")
        .bind(queue)
        .bind(ids)
        .execute(pool)
        .await?;
    Ok(())
}

/// Serves what comes: polled for in the server each 10 ms or, held to a rate, read a share of it each 50 ms, urgent messages
/// first.
pub async fn serve(database_url: &str, courier: Courier, rate: Option<u32>) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .test_before_acquire(false)
        .connect(database_url)
        .await?;
    match rate {
        None => loop {
            let messages: Vec<Message> = sqlx::query_as(
                "select msg_id, message from pgmq.read_with_poll('send', 30, 64, 5, 10)",
            )
            .fetch_all(&pool)
            .await?;
            if !messages.is_empty() {
                send_and_delete(&pool, &courier, "send", messages).await?;
            }
        },
        Some(rate) => {
            let share = rate.div_ceil(TICKS_PER_SECOND) as usize;
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let urgent = read(&pool, "urgent", share).await?;
                let left = share - urgent.len();
                let bulk = if left > 0 {
                    read(&pool, "send", left).await?
                } else {
                    Vec::new()
                };
                for (queue, messages) in [("urgent", urgent), ("send", bulk)] {
                    if !messages.is_empty() {
                        send_and_delete(&pool, &courier, queue, messages).await?;
                    }
                }
            }
        }
    }
}
