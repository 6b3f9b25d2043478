//! The worker's listener: alive, ready, measured.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wxnotify::http::{self, Health};
use wxnotify::telemetry;

const POLL: Duration = Duration::from_secs(1);

/// Serves `health` until the guard is dropped.
async fn serve(health: &Health) -> (SocketAddr, tokio_util::sync::DropGuard) {
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let guard = shutdown.clone().drop_guard();
    tokio::spawn(http::serve(
        listener,
        health.clone(),
        telemetry::record_metrics(),
        shutdown,
    ));
    (address, guard)
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{address}{path}"))
        .await
        .unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn readiness(address: SocketAddr) -> (u16, String) {
    let (status, body) = get(address, "/readyz").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["ready"],
        status == 200,
        "the body says what the status says"
    );
    (status, body["reasons"].to_string())
}

/// Whoever opens a connection and says half a word must not keep it for ever.
#[tokio::test]
async fn a_request_whose_head_never_ends_is_hung_up_on() {
    let (address, _guard) = serve(&Health::new(POLL)).await;
    for said in ["", "GET /healthz HTTP/1.1\r\nHost: she-types-slow"] {
        let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
        slow.write_all(said.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        crate::harness::in_time("it is hung up on", slow.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_worker_is_alive_before_it_is_ready() {
    let health = Health::new(POLL);
    let (address, _guard) = serve(&health).await;

    assert_eq!(get(address, "/healthz").await, (200, "alive\n".to_owned()));
    let (status, reasons) = readiness(address).await;
    assert_eq!(status, 503);
    assert!(
        reasons.contains("not connected yet") && reasons.contains("none asked for yet"),
        "{reasons}"
    );

    health.database_ok();
    assert_eq!(
        readiness(address).await.0,
        503,
        "a database without leases is not enough"
    );
    health.lease_polled();
    assert_eq!(readiness(address).await, (200, "[]".to_owned()));
}

#[tokio::test]
async fn a_database_out_of_reach_and_a_stop_are_reasons_not_to_be_ready() {
    let health = Health::new(POLL);
    health.lease_polled();
    let (address, _guard) = serve(&health).await;

    health.database_failed("connection refused");
    let (status, reasons) = readiness(address).await;
    assert_eq!(
        (status, reasons.contains("database: connection refused")),
        (503, true),
        "{reasons}"
    );

    health.lease_polled();
    assert_eq!(
        readiness(address).await.0,
        200,
        "the next lease proves the database is back"
    );
    health.stopping();
    assert!(readiness(address).await.1.contains("stopping"));
}

#[tokio::test]
async fn leases_that_stop_flowing_are_noticed_after_ten_seconds_or_five_polls() {
    for (poll, limit) in [(Duration::from_secs(1), 10), (Duration::from_secs(4), 20)] {
        let health = Health::new(poll);
        health.lease_polled();
        let polled_at = Instant::now();
        assert!(
            health
                .complaints(polled_at + Duration::from_secs(limit - 1))
                .is_empty()
        );
        let complaints = health.complaints(polled_at + Duration::from_secs(limit + 1));
        assert_eq!(complaints.len(), 1);
        assert!(
            complaints[0].contains(&format!("limit {limit} s")),
            "{complaints:?}"
        );
    }
}

#[tokio::test]
async fn metrics_are_in_prometheus_format_with_the_version() {
    let (address, _guard) = serve(&Health::new(POLL)).await;
    telemetry::SendMetrics::of("wx-metrics-test").end("sent", Duration::from_millis(20));

    let (status, body) = get(address, "/metrics").await;

    assert_eq!(status, 200);
    assert!(
        body.contains(r#"wxnotify_sends_total{appid="wx-metrics-test",outcome="sent"} 1"#),
        "{body}"
    );
    let bucket = r#"wxnotify_send_duration_seconds_bucket{appid="wx-metrics-test",le="0.025"} 1"#;
    assert!(body.contains(bucket), "{body}");
    assert!(
        body.contains(&format!(
            "wxnotify_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        )),
        "{body}"
    );
}

#[tokio::test]
async fn other_paths_methods_and_large_bodies_are_refused() {
    let (address, _guard) = serve(&Health::new(POLL)).await;
    assert_eq!(get(address, "/").await.0, 404);
    assert_eq!(get(address, "/metrics/../etc/passwd").await.0, 404);
    let client = reqwest::Client::new();
    let post = client
        .post(format!("http://{address}/healthz"))
        .body(vec![0; 1 << 20])
        .send()
        .await;
    assert_ne!(
        post.map(|answer| answer.status().as_u16()).unwrap_or(413),
        200
    );
}

#[tokio::test]
async fn a_taken_address_is_named_with_its_setting() {
    let taken = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = http::bind(taken.local_addr().unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&taken.local_addr().unwrap().to_string()),
        "{error}"
    );
    assert!(error.contains("WXNOTIFY_LISTEN"), "{error}");
}

#[tokio::test]
async fn the_listener_ends_when_told() {
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(http::serve(
        listener,
        Health::new(POLL),
        telemetry::record_metrics(),
        shutdown.clone(),
    ));
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}
