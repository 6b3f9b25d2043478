//! A database that is away, crashes, or in which somebody else is at work.

use std::time::Duration;

use serde_json::json;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use wxnotify::postgres::{Options, ThrowawayPostgres};
use wxnotify::simulate::{FakeWechat, SimulateOptions};
use wxnotify::worker::RunOptions;

use super::{APP, Running, Scene, environment, insert};
use crate::harness::{eventually, free_address, in_time, make_schema};

/// A server of the test's own, to be killed.
struct Mortal {
    postgres: ThrowawayPostgres,
    pool: PgPool,
    fake: FakeWechat,
}

impl Mortal {
    async fn new() -> Self {
        let options = Options {
            durable: true,
            ..Options::default()
        };
        let postgres = ThrowawayPostgres::start(options).await.unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(5)
            .connect(postgres.url())
            .await
            .unwrap();
        let mut connection = pool.acquire().await.unwrap().detach();
        make_schema(&mut connection).await;
        connection.close().await.unwrap();
        sqlx::query("insert into wechat_apps (appid) values ($1)")
            .bind(APP)
            .execute(&pool)
            .await
            .unwrap();
        Self {
            postgres,
            pool,
            fake: FakeWechat::start(SimulateOptions::default()).await.unwrap(),
        }
    }

    fn start(&self, changed: &[(&str, &str)]) -> Running {
        let environment = environment(self.postgres.url(), &self.fake.base_url(), changed);
        Running::start(environment, RunOptions::default())
    }

    async fn insert_many(&self, count: i32) {
        for number in 0..count {
            insert(&self.pool, &format!("oUser{number}"), json!({})).await;
        }
    }

    /// Waits until so many rows are `sent`, whatever connections broke meanwhile.
    async fn until_sent(&self, count: i64) {
        eventually("the rows are sent", async || {
            let sent = "select count(*) from notification_history where status = 'sent'";
            let sent = sqlx::query_scalar::<_, i64>(sent).fetch_one(&self.pool);
            (sent.await.ok()? == count).then_some(())
        })
        .await;
    }

    /// Every row was sent exactly once and never in doubt.
    async fn assert_no_harm(&self, count: u64) {
        let counts = self.fake.control().counts();
        assert_eq!(counts.sends_arrived, count);
        assert_eq!(counts.sends_accepted, count);
        let harmed: i64 = sqlx::query_scalar(
            "select (select count(*) from pending_notifications)
                  + (select count(*) from notification_history where in_doubt_since is not null or attempts <> 1)",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert_eq!(harmed, 0);
    }
}

async fn ready_status(address: &str) -> Option<u16> {
    let answer = reqwest::get(format!("http://{address}/readyz")).await;
    Some(answer.ok()?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_a_database_that_is_away_at_its_start() {
    let mut mortal = Mortal::new().await;
    mortal.insert_many(10).await;
    mortal.postgres.kill().await.unwrap();
    let address = free_address().to_string();
    let _worker = mortal.start(&[("WXNOTIFY_LISTEN", &address)]);
    eventually("it says that it is not ready", async || {
        (ready_status(&address).await == Some(503)).then_some(())
    })
    .await;
    let alive = reqwest::get(format!("http://{address}/healthz")).await;
    assert_eq!(alive.unwrap().status(), 200);

    mortal.postgres.restart().await.unwrap();
    mortal.until_sent(10).await;
    assert_eq!(ready_status(&address).await, Some(200));
    mortal.assert_no_harm(10).await;
}

/// The replies came while the database was dead: they are kept and written when it returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_database_in_mid_flight_loses_no_reply_and_sends_nothing_twice() {
    let mut mortal = Mortal::new().await;
    mortal.insert_many(60).await;
    let wechat = mortal.fake.control();
    wechat.hold();
    let address = free_address().to_string();
    let _worker = mortal.start(&[("WXNOTIFY_LISTEN", &address)]);
    in_time("slots are full", wechat.wait_for_calls(8)).await;
    mortal.postgres.kill().await.unwrap();
    wechat.release();
    let replied = wechat.wait_for_sends(8, Duration::from_secs(20)).await;
    replied.unwrap();
    eventually("it says that it is not ready", async || {
        (ready_status(&address).await == Some(503)).then_some(())
    })
    .await;

    mortal.postgres.restart().await.unwrap();
    mortal.until_sent(60).await;
    mortal.assert_no_harm(60).await;
    eventually("it is ready again", async || {
        (ready_status(&address).await == Some(200)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_crashes_under_load_again_and_again_costs_no_row_and_no_double() {
    let mut mortal = Mortal::new().await;
    mortal.insert_many(200).await;
    let wechat = mortal.fake.control();
    wechat.set_latency(Duration::from_millis(10));
    let _worker = mortal.start(&[]);
    for crash in 1..=3 {
        in_time("more sends arrive", wechat.wait_for_calls(crash * 45)).await;
        mortal.postgres.kill().await.unwrap();
        mortal.postgres.restart().await.unwrap();
    }
    mortal.until_sent(200).await;
    mortal.assert_no_harm(200).await;
}

#[tokio::test]
async fn terminated_connections_are_made_anew() {
    let scene = Scene::new().await;
    scene.wechat.set_latency(Duration::from_millis(5));
    let ids = scene.insert_many("oUser", 150, json!({})).await;
    let _worker = scene.start(&[]);
    for round in 1..=4 {
        scene.until_sends(round * 25).await;
        let others = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid()";
        let mut connection = scene.database.connect().await;
        // It may be without any for a moment: what it has leased it sends all the same.
        eventually("the worker has connections to lose", async || {
            let terminated: i64 = sqlx::query_scalar(others)
                .fetch_one(&mut connection)
                .await
                .unwrap();
            (terminated > 0).then_some(())
        })
        .await;
    }
    eventually("all rows are sent", async || {
        let sent = "select count(*) from notification_history where status = 'sent'";
        let sent = sqlx::query_scalar::<_, i64>(sent).fetch_one(scene.pool());
        (sent.await.ok()? == 150).then_some(())
    })
    .await;
    assert_eq!(scene.count_with_status(&ids, "sent").await, 150);
    assert_eq!(scene.sends(), 150);
}

#[tokio::test]
async fn a_row_locked_by_a_producer_is_settled_when_the_producer_lets_go() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let ids = scene.insert_many("oUser", 8, json!({})).await;
    let _worker = scene.start(&[]);
    scene.until_sends(8).await;
    let mut producer = scene.pool().begin().await.unwrap();
    sqlx::query("select from pending_notifications where id = $1 for update")
        .bind(ids[3])
        .execute(&mut *producer)
        .await
        .unwrap();
    scene.wechat.release();
    let others: Vec<i64> = ids.iter().copied().filter(|id| *id != ids[3]).collect();
    scene.until_all(&others, "sent").await;
    assert_eq!(scene.status(ids[3]).await, "sending");
    // Only the straggler's user waits: the others' next rows go out.
    let next = scene.insert("oUser0", json!({})).await;
    scene.until(next, "sent").await;

    producer.commit().await.unwrap();
    let row = scene.until(ids[3], "sent").await;
    assert!(!row.doubted, "{row:?}");
    assert_eq!(scene.sends(), 9);
}

#[tokio::test]
async fn a_cancel_of_a_row_in_flight_changes_nothing() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let id = scene.insert("oUser", json!({})).await;
    let _worker = scene.start(&[]);
    scene.until_sends(1).await;
    let cancel = sqlx::query("delete from pending_notifications where id = $1").bind(id);
    let cancelled = cancel.execute(scene.pool()).await.unwrap();
    assert_eq!(cancelled.rows_affected(), 0);
    scene.wechat.release();
    scene.until(id, "sent").await;
}

#[tokio::test]
async fn the_databases_default_isolation_does_not_matter() {
    for level in ["repeatable read", "serializable"] {
        let scene = Scene::new().await;
        let statement = format!(
            "do $$ begin execute format('alter database %I set default_transaction_isolation = %L',
                                        current_database(), '{level}'); end $$"
        );
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(scene.pool())
            .await
            .unwrap();
        let ids = scene.insert_many("oUser", 40, json!({})).await;
        let _one = scene.start(&[]);
        let _two = scene.start(&[]);
        scene.until_all(&ids, "sent").await;
        assert_eq!(scene.sends(), 40, "{level}");
    }
}
