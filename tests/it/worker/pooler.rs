//! Behind a pooler in transaction mode, as far as it shows without one; `tests/chaos/pooler.rs` has one.

use std::time::Duration;

use serde_json::json;
use sqlx::{Executor, Postgres, Row};
use wxnotify::store::{Route, Store};

use super::Scene;
use crate::harness::wxnotify;

/// What the one session of a pool keeps: its prepared statements, and two settings of ours.
async fn kept_by(session: impl Executor<'_, Database = Postgres>) -> (i64, String, String) {
    let asked = "select (select count(*) from pg_prepared_statements), current_setting('statement_timeout'), current_setting('jit')";
    // Not prepared itself.
    let row = session.fetch_one(sqlx::raw_sql(asked)).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn through_a_pooler_statements_leave_nothing_in_the_session() {
    let scene = Scene::new().await;
    let plain = kept_by(scene.pool()).await;
    let to_the_database = || scene.database.url().parse().unwrap();
    let second = Duration::from_secs(1);
    let through = Store::connect_lazy(to_the_database(), Route::TransactionPooler, 1, second);
    for _ in 0..2 {
        through.durability().await.unwrap();
    }
    assert_eq!(
        kept_by(&mut *through.borrow().await.unwrap()).await,
        (0, plain.1.clone(), plain.2.clone())
    );
    let direct = Store::connect_lazy(to_the_database(), Route::Direct, 1, second);
    direct.durability().await.unwrap();
    let (prepared, limit, jit) = kept_by(&mut *direct.borrow().await.unwrap()).await;
    assert!(prepared > 0);
    assert_eq!((limit.as_str(), jit.as_str()), ("2s", "off"));
}

#[tokio::test]
async fn through_a_pooler_a_refused_statement_does_not_spoil_the_next() {
    let scene = Scene::new().await;
    let url = scene.database.url().parse().unwrap();
    let store = Store::connect_lazy(url, Route::TransactionPooler, 1, Duration::from_secs(5));
    let asked = "select 1 / $1::int, pg_backend_pid()";
    let mut processes = Vec::new();
    for divisor in [1, 0, 1] {
        let query = sqlx::query(asked).bind(divisor);
        match query.fetch_one(&store.pool).await {
            Ok(row) => processes.push(row.get::<i32, _>(1)),
            Err(error) => assert!(error.to_string().contains("division by zero"), "{error}"),
        }
    }
    assert_eq!(processes.len(), 2);
    assert_eq!(processes[0], processes[1], "the session was given up");
}

#[tokio::test]
async fn through_a_pooler_a_worker_finds_new_rows_by_polling_and_does_not_listen() {
    let scene = Scene::new().await;
    let through = [("WXNOTIFY_POOLER", "true"), ("WXNOTIFY_POLL_SECS", "0.1")];
    let worker = scene.start(&through);
    for openid in ["o-first", "o-second"] {
        let id = scene.insert(openid, json!({})).await;
        scene.until(id, "sent").await;
    }
    let listening = "select count(*) from pg_stat_activity where datname = current_database() and query ilike 'listen%'";
    assert_eq!(scene.count(listening).await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn migrations_are_refused_through_a_pooler() {
    let scene = Scene::new().await;
    let refused = wxnotify()
        .arg("migrate")
        .env("DATABASE_URL", scene.database.url())
        .env("WXNOTIFY_POOLER", "true")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("migrations need the server itself"), "{said}");
}
