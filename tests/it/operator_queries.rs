//! The operators' queries in `sql/operator/`: each runs as it stands, and says in both languages what it answers.

use std::path::PathBuf;

use serde_json::json;
use sqlx::{AssertSqlSafe, Row};

use crate::kernel::{Outcome, Queue, in_secs};

/// The files with their text, in order.
fn queries() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sql/operator");
    let mut queries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    queries.sort();
    queries
}

#[tokio::test]
async fn each_query_answers_on_an_empty_and_on_a_lively_database() {
    let queue = Queue::new().await;
    for lively in [false, true] {
        if lively {
            let order = json!({"business_ref": "20261122-0001"});
            let dead = queue.enqueue(order).await;
            let doubtful = queue
                .enqueue(json!({"openid": "two", "on_doubt": "hold"}))
                .await;
            let lease = queue.lease_and_start("worker/1").await;
            let outcomes = [Outcome::dead(dead, 47003, "kept"), Outcome::doubt(doubtful)];
            queue.settle(&lease, &outcomes).await;
            queue.enqueue(json!({"send_at": in_secs(600)})).await;
            queue.enqueue(json!({"appid": "wx-stranger"})).await;
            queue
                .enqueue(json!({"appid": "wx0123456789abcdef", "openid": "oExampleOfAnOpenid", "send_at": in_secs(-3600)}))
                .await;
        }
        for (name, text) in queries() {
            let rows = sqlx::query(AssertSqlSafe(text))
                .fetch_all(queue.pool())
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!lively || !rows.is_empty(), "{name} answers nothing");
            assert!(rows.iter().all(|row| !row.columns().is_empty()), "{name}");
        }
    }
}

/// A producer may lock its table: then the operator must find the session that holds everybody up.
#[tokio::test]
async fn who_blocks_the_queue_names_the_session_that_holds_a_lock() {
    let queue = Queue::new().await;
    let mut holder = queue.pool().begin().await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    sqlx::query("lock table pending_notifications in access exclusive mode")
        .execute(&mut *holder)
        .await
        .unwrap();
    let pool = queue.pool().clone();
    let waiting = tokio::spawn(async move {
        sqlx::query("select count(*) from pending_notifications")
            .fetch_one(&pool)
            .await
    });
    let (_, query) = queries()
        .into_iter()
        .find(|(name, _)| name == "who_blocks_the_queue.sql")
        .unwrap();
    let holds = crate::harness::eventually("the holder is named", async || {
        let rows = sqlx::query(AssertSqlSafe(query.clone()))
            .fetch_all(queue.pool())
            .await
            .unwrap();
        let row = rows
            .iter()
            .find(|row| row.get::<Option<i32>, _>("pid") == Some(pid))?;
        row.get::<Option<String>, _>("holds")
    })
    .await;
    assert!(
        holds.contains("pending_notifications AccessExclusiveLock"),
        "{holds}"
    );
    holder.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[test]
fn there_are_eleven_and_each_opens_with_its_question_in_english_and_chinese() {
    let queries = queries();
    assert_eq!(queries.len(), 11);
    for (name, text) in queries {
        let mut lines = text.lines();
        let english = lines.next().unwrap();
        let chinese = lines.next().unwrap();
        assert!(
            english.starts_with("-- ") && english.ends_with('?'),
            "{name}: {english}"
        );
        assert!(
            chinese.starts_with("-- ") && chinese.ends_with('？'),
            "{name}: {chinese}"
        );
        assert!(
            !text.contains("\\set") && !text.contains(":'"),
            "{name} needs psql variables"
        );
    }
}
