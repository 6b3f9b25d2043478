//! How many sends are in flight: what the settings allow, and what WeChat can take.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::json;
use wxnotify::simulate::{Action, Capacity, Rule};

use super::Scene;
use crate::harness::eventually;

const FIXED: (&str, &str) = ("WXNOTIFY_CONCURRENCY_MODE", "fixed");

/// What the gauge of the limit says.
async fn limit(address: &str) -> Option<f64> {
    gauge(address, "wxnotify_concurrency_limit").await
}

/// What a gauge says; `None` before the worker's listener answers.
pub async fn gauge(address: &str, name: &str) -> Option<f64> {
    let answer = reqwest::get(format!("http://{address}/metrics")).await;
    let metrics = answer.ok()?.text().await.ok()?;
    let line = metrics
        .lines()
        .find(|line| line.split(' ').next() == Some(name))?;
    line.split(' ').next_back()?.parse().ok()
}

/// Gauges belong to a process, so the worker is one of its own here.
#[tokio::test]
async fn refusals_lower_the_limit_to_its_minimum_and_the_gauge_shows_it() {
    let scene = Scene::new().await;
    scene.wechat.script(Rule::send(Action::errcode(-1)));
    let rows = scene
        .insert_many("oUser", 100, json!({ "attempts_max": 8 }))
        .await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let _worker = scene.spawn(&[
        ("WXNOTIFY_CONCURRENCY", "64"),
        ("WXNOTIFY_CONCURRENCY_MIN", "6"),
        ("WXNOTIFY_LISTEN", &address),
    ]);
    eventually("the limit is low", async || {
        (limit(&address).await? <= 12.0).then_some(())
    })
    .await;
    scene.until_all(&rows, "dead").await;
    assert!(limit(&address).await >= Some(6.0));
}

/// A gauge that is set every quarter of a minute would show rows that are long gone.
#[tokio::test]
async fn an_emptied_queue_soon_reads_as_empty_and_says_when_it_was_counted() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let rows = scene.insert_many("oUser", 20, json!({})).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let _worker = scene.spawn(&[("WXNOTIFY_LISTEN", &address)]);
    let at_first = eventually("the rows are counted", async || {
        (gauge(&address, "wxnotify_due_rows").await? == 20.0).then_some(())?;
        gauge(&address, "wxnotify_queue_counted_at_seconds").await
    })
    .await;

    scene.wechat.release();
    scene.until_all(&rows, "sent").await;
    let ended_at: f64 = sqlx::query_scalar(
        "select extract(epoch from max(finished_at))::float8 from notification_history",
    )
    .fetch_one(scene.pool())
    .await
    .unwrap();
    let at_last = eventually("the queue reads as empty", async || {
        (gauge(&address, "wxnotify_due_rows").await? == 0.0).then_some(())?;
        gauge(&address, "wxnotify_queue_counted_at_seconds").await
    })
    .await;
    assert!(
        at_first < ended_at && ended_at - 1.0 < at_last,
        "{at_first} {ended_at} {at_last}"
    );
    assert!(
        at_last - ended_at < 10.0,
        "counted {} s after the last row ended",
        at_last - ended_at
    );
    assert_eq!(
        gauge(&address, "wxnotify_oldest_due_age_seconds").await,
        Some(0.0)
    );
}

#[tokio::test]
async fn in_the_mode_fixed_refusals_change_nothing() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::send(Action::errcode(-1)).times(200));
    let rows = scene.insert_many("oUser", 100, json!({})).await;
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "50"), FIXED]);
    scene.until_all(&rows, "sent").await;
    let sends = scene.sends();

    scene.wechat.hold();
    scene.insert_many("oNext", 60, json!({})).await;
    scene.until_sends(sends + 50).await;
    scene.wechat.release();
    scene.until_sends(sends + 60).await;
}

/// The same rows to a WeChat that serves eight sends at once and refuses what comes while sixteen are inside: how many
/// sends it refused until every row was final. It holds the answers until so many sends have come `at_first`.
async fn refusals_of_a_small_wechat(at_first: u64, changed: &[(&str, &str)]) -> u64 {
    let scene = Scene::new().await;
    scene.wechat.set_capacity(Some(Capacity {
        at_once: 8,
        refuses_from: Some(16),
        refusal: Action::errcode(-1),
    }));
    scene.wechat.hold();
    scene.insert_many("oUser", 128, json!({})).await;
    let _worker = scene.start(changed);
    scene.until_sends(at_first).await;
    scene.wechat.release();
    eventually("every row is final", async || {
        let pending = "select count(*) from pending_notifications";
        (scene.count(pending).await == 0).then_some(())
    })
    .await;
    let refused = scene.wechat.counts().errcodes.get(&-1).copied();
    refused.unwrap_or_default()
}

#[tokio::test]
async fn a_small_wechat_refuses_far_fewer_sends_of_a_worker_that_adapts() {
    let concurrency = ("WXNOTIFY_CONCURRENCY", "128");
    let fixed = refusals_of_a_small_wechat(128, &[concurrency, FIXED]).await;
    assert!(fixed >= 112, "all but sixteen of the first 128: {fixed}");
    let adaptive = refusals_of_a_small_wechat(32, &[concurrency]).await;
    assert!(adaptive < 112, "adaptive {adaptive}, fixed {fixed}");
}
