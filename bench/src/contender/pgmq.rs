//! The least a queue on Postgres can do: pgmq's functions in a loop of read a batch, send it, delete it. No history, no
//! retry, no order for one user; a crash sends the batch again.

use sqlx::postgres::PgPoolOptions;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgPool};

use super::courier::Courier;
use crate::message;

/// Loops beside each other; each has its share of the concurrency in flight.
const LOOPS: usize = 4;

pub async fn load(pool: &PgPool, rows: u64) -> anyhow::Result<()> {
    pgmq::PGMQueueExt::new_with_pool(pool.clone())
        .await
        .install_sql_from_embedded()
        .await?;
    sqlx::query("select pgmq.create('send')")
        .execute(pool)
        .await?;
    let statement = format!(
        "select count(*) from pgmq.send_batch('send', array(select {} from generate_series(1, {rows}) n))",
        message::body_in_sql().replace("::json", "::jsonb")
    );
    sqlx::query(AssertSqlSafe(statement)).execute(pool).await?;
    Ok(())
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
        let messages: Vec<(i64, Json<Box<serde_json::value::RawValue>>)> =
            sqlx::query_as("select msg_id, message from pgmq.read('send', 30, $1)")
                .bind(i32::try_from(batch)?)
                .fetch_all(pool)
                .await?;
        if messages.is_empty() {
            return Ok(());
        }
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
        sqlx::query("select pgmq.delete('send', $1::bigint[])")
            .bind(ids)
            .execute(pool)
            .await?;
    }
}
