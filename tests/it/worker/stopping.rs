//! Signals: the first lets the worker finish, a deadline limits it, a second one ends it at once.

use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::{Connection, PgPool};
use wxnotify::postgres::{Options, ThrowawayPostgres};
use wxnotify::simulate::{FakeWechat, SimulateOptions};

use super::{Program, Scene, environment};

use crate::harness::{eventually, free_address, make_schema, stalled_scraper};

const CONCURRENCY: [(&str, &str); 1] = [("WXNOTIFY_CONCURRENCY", "4")];

#[tokio::test]
async fn sigterm_settles_what_is_in_flight_and_gives_back_the_rest() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let scene = Scene::new().await;
        scene.wechat.hold();
        let ids = scene.insert_many("oUser", 30, json!({})).await;
        // Whatever whoever runs the tests has ignored, say by nohup.
        let script = "exec env --default-signal=HUP \"$0\" run";
        let mut worker = scene.spawn_by_shell(script, &CONCURRENCY);
        scene.until_sends(4).await;
        worker.signal(signal);
        worker.until_logged("Stopping").await;
        scene.wechat.release();
        assert_eq!(worker.end().await.code(), Some(0), "{}", worker.log());

        assert_eq!(scene.sends(), 4);
        assert_eq!(scene.count_with_status(&ids, "sent").await, 4);
        assert_eq!(scene.count_with_status(&ids, "due").await, 26);
        let leases = "select count(*) from notification_leases";
        assert_eq!(scene.count(leases).await, 0);
        let counted = "select count(*) from pending_notifications where attempts > 0";
        assert_eq!(scene.count(counted).await, 0);
        let retired = "select count(*) from notification_workers where stopped_at is not null";
        assert_eq!(scene.count(retired).await, 1);

        scene.run_until_empty(&[]).await;
        assert_eq!(scene.count_with_status(&ids, "sent").await, 30);
        assert_eq!(scene.sends(), 30);
    }
}

#[tokio::test]
async fn after_the_drains_deadline_what_is_in_flight_is_in_doubt_and_nothing_else() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let ids = scene.insert_many("oUser", 30, json!({})).await;
    let mut worker = scene.spawn(&[
        ("WXNOTIFY_CONCURRENCY", "4"),
        ("WXNOTIFY_DRAIN_SECS", "0.3"),
    ]);
    scene.until_sends(4).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().await.code(), Some(75), "{}", worker.log());
    assert_eq!(scene.count_with_status(&ids, "in_doubt").await, 4);
    assert_eq!(scene.count_with_status(&ids, "due").await, 26);
    let leases = "select count(*) from notification_leases";
    assert_eq!(scene.count(leases).await, 0);
    assert_eq!(scene.sends(), 4);
}

#[tokio::test]
async fn a_second_signal_stops_at_once_and_the_leases_tell_what_may_have_been_sent() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let ids = scene.insert_many("oUser", 30, json!({})).await;
    let mut worker = scene.spawn(&[
        ("WXNOTIFY_CONCURRENCY", "4"),
        ("WXNOTIFY_DRAIN_SECS", "3600"),
    ]);
    scene.until_sends(4).await;
    worker.signal(Signal::SIGTERM);
    worker.until_logged("Stopping").await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().await.code(), Some(75), "{}", worker.log());

    // What is in flight, and the next lease, whose size follows the speed that was measured: no third one was begun.
    let under_way = scene.rows_under_way().await.len();
    let leases = scene
        .count("select count(distinct lease_id) from notifications_in_flight")
        .await;
    assert!(
        under_way >= 4 && leases <= 2,
        "{under_way} rows of {leases} leases"
    );
    scene.wechat.release();
    scene.lapse_leases().await;
    scene.run_until_empty(&[]).await;
    assert_eq!(scene.count_with_status(&ids, "in_doubt").await, under_way);
    assert_eq!(scene.count_with_status(&ids, "sent").await, 30 - under_way);
}

#[tokio::test]
async fn a_worker_with_nothing_to_do_stops_without_delay() {
    let scene = Scene::new().await;
    let mut worker = scene.spawn(&[("WXNOTIFY_POLL_SECS", "60")]);
    worker.until_logged("started").await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().await.code(), Some(0), "{}", worker.log());
}

/// The shell has it ignored, as nohup does: the end of a terminal must not stop what was meant to outlive it.
#[tokio::test]
async fn under_nohup_sighup_stops_nothing() {
    let scene = Scene::new().await;
    let mut worker = scene.spawn_by_shell("trap '' HUP; exec \"$0\" run", &[]);
    let before = scene.insert("oBefore", json!({})).await;
    scene.until(before, "sent").await;
    worker.signal(Signal::SIGHUP);
    let after = scene.insert("oAfter", json!({})).await;
    scene.until(after, "sent").await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().await.code(), Some(0), "{}", worker.log());
}

/// Nothing is in flight, so nothing is worth waiting for: not the statements' deadline either, which is a minute here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_the_database_is_away_waits_for_nothing() {
    for is_away_from_the_start in [true, false] {
        let mut postgres = ThrowawayPostgres::start(Options::default()).await.unwrap();
        let pool = PgPool::connect(postgres.url()).await.unwrap();
        let mut connection = pool.acquire().await.unwrap().detach();
        make_schema(&mut connection).await;
        connection.close().await.unwrap();
        let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
        if is_away_from_the_start {
            postgres.kill().await.unwrap();
        }
        let minute = [
            ("WXNOTIFY_STATEMENT_TIMEOUT_SECS", "600"),
            ("WXNOTIFY_DRAIN_SECS", "3600"),
        ];
        let mut worker = Program::spawn(environment(postgres.url(), &fake.base_url(), &minute));
        if is_away_from_the_start {
            eventually("it runs", async || {
                worker.is_listening_to_signals().then_some(())
            })
            .await;
        } else {
            worker.until_logged("started").await;
            postgres.kill().await.unwrap();
            // Its connections are gone, and its next statements wait for new ones. Maintenance says so only where a statement
            // of its own was cut off; the leaser always runs into it.
            worker.until_logged("Leasing waits for the database").await;
        }
        worker.signal(Signal::SIGTERM);
        assert_eq!(worker.end().await.code(), Some(0), "{}", worker.log());
    }
}

#[tokio::test]
async fn a_scraper_that_reads_nothing_does_not_keep_a_stopped_worker_alive() {
    let scene = Scene::new().await;
    let address = free_address();
    let mut worker = scene.spawn(&[("WXNOTIFY_LISTEN", &address.to_string())]);
    eventually("the program listens", async || {
        reqwest::get(format!("http://{address}/healthz")).await.ok()
    })
    .await;
    let _scraper = stalled_scraper(address).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.end().await.code(), Some(0), "{}", worker.log());
}
