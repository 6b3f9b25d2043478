//! The HTTP listener under attack: whatever a stranger sends, nothing is stored, nothing is told, and others are served.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wxnotify::http::{self, Health};
use wxnotify::telemetry;

use crate::events::{Scene, sent_event};
use crate::harness::{in_time, stalled_scraper};
use crate::kernel::APP;

/// What the listener answers to raw bytes; empty when it only closes the connection.
async fn answer(scene: &Scene, request: &[u8]) -> String {
    answer_to(scene, request, true).await
}

/// To one that `hangs_up` after its request a listener need not answer: whoever keeps the line open gets an answer for certain.
async fn answer_to(scene: &Scene, request: &[u8], hangs_up: bool) -> String {
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    // It may close its half before it has read everything.
    let _ = stream.write_all(request).await;
    if hangs_up {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = in_time("an answer or an end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("closed")
}

/// A target with a good signature.
fn signed_target(scene: &Scene) -> String {
    let url = reqwest::Url::parse_with_params(&scene.url(), Scene::query()).unwrap();
    format!("{}?{}", url.path(), url.query().unwrap())
}

#[tokio::test]
async fn tricks_with_paths_headers_and_framing_lead_nowhere() {
    let scene = Scene::plain().await;
    let event = sent_event("oAttacked", 1).to_string();
    let target = signed_target(&scene);
    let forged = target.replace("signature=", "signature=00");
    let length = event.len();
    let long = "a".repeat(300_000);
    let post = |target: &str, headers: &str| {
        format!(
            "POST {target} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{event}"
        )
    };
    let cases = [
        (
            "another app",
            post(&target.replace(APP, "wx-evil-label"), ""),
        ),
        (
            "a path upwards",
            post(&target.replace("callback/", "callback/../callback/"), ""),
        ),
        (
            "an encoded path upwards",
            post(&target.replace("callback/", "callback/%2e%2e/"), ""),
        ),
        (
            "an encoded slash",
            post(&target.replace("callback/", "callback%2F"), ""),
        ),
        (
            "a NUL in the app",
            post(&target.replace(APP, &format!("{APP}%00")), ""),
        ),
        ("a slash at the end", post(&target.replace('?', "/?"), "")),
        ("no signature", post(target.split('?').next().unwrap(), "")),
        ("a signature too long", post(&forged, "")),
        (
            "a good signature after a bad one",
            post(&target.replace("?", "?signature=00&"), ""),
        ),
        (
            "a signature in a header",
            post(target.split('?').next().unwrap(), "signature: 00\r\n"),
        ),
        (
            "said to come from WeChat",
            post(
                &forged,
                "x-forwarded-for: 127.0.0.1\r\nx-real-ip: 127.0.0.1\r\n",
            ),
        ),
        (
            "another method by header",
            post("/healthz", "x-http-method-override: GET\r\n"),
        ),
        ("two lengths", post(&forged, "content-length: 5\r\n")),
        (
            "a length and chunks",
            post(&forged, "transfer-encoding: chunked\r\n"),
        ),
        (
            "no host",
            format!("GET /metrics HTTP/1.1\r\n\r\n\r\nGET {long} HTTP/1.1"),
        ),
        (
            "a header without end",
            format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
        ),
        (
            "a target without end",
            format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        ),
        (
            "many headers",
            format!(
                "GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n",
                "x: y\r\n".repeat(2000)
            ),
        ),
        (
            "TRACE",
            "TRACE /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
        ),
        (
            "CONNECT",
            "CONNECT internal:5432 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
        ),
        (
            "a proxy's target",
            "GET http://169.254.169.254/latest HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
                .to_owned(),
        ),
        (
            "HTTP/2 without asking",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        ),
        (
            "TLS on a plain port",
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}".to_owned(),
        ),
        ("no HTTP", "\r\n\r\n\0\0\0\0 hello\r\n\r\n".to_owned()),
    ];
    for (what, request) in cases {
        let answer = answer(&scene, request.as_bytes()).await;
        let status = status_of(&answer);
        let refused = status == "closed" || status.starts_with('4') || status == "505";
        // Without a Host header a scrape is merely old-fashioned.
        assert!(
            refused || (what == "no host" && status == "200"),
            "{what}: {answer}"
        );
        for told in ["success", "oAttacked", "callbackToken01"] {
            assert!(!answer.contains(told), "{what}: {answer}");
        }
    }
    assert!(scene.events().await.is_empty());
    let metrics = answer_to(
        &scene,
        b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        false,
    )
    .await;
    assert_eq!(status_of(&metrics), "200");
    assert!(!metrics.contains("evil"), "a stranger makes no label");
    scene.push(&sent_event("oWelcome", 2)).await;
    assert_eq!(scene.events().await.len(), 1);
}

#[tokio::test]
async fn a_flood_of_forgeries_and_of_connections_that_dawdle_keeps_nobody_out() {
    let scene = Scene::plain().await;
    let target = signed_target(&scene);
    let event = sent_event("oSlow", 1).to_string();
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        event.len()
    );
    // One half stop within their headers, the other within their bodies.
    let mut dawdlers = Vec::new();
    for number in 0..60 {
        let mut stream = TcpStream::connect(scene.address).await.unwrap();
        let said = if number % 2 == 0 {
            &head[..head.len() - 2]
        } else {
            head.as_str()
        };
        stream.write_all(said.as_bytes()).await.unwrap();
        stream
            .write_all(&event.as_bytes()[..if number % 2 == 0 { 0 } else { 20 }])
            .await
            .unwrap();
        dawdlers.push(stream);
    }
    let mut forged = Scene::query();
    forged[0].1 = "0".repeat(40);
    let floods = (0..200).map(|_| scene.post(&forged, json!({}).to_string()));
    for (status, _) in futures::future::join_all(floods).await {
        assert_eq!(status, 403);
    }

    scene.push(&sent_event("oWelcome", 2)).await;

    assert_eq!(scene.events().await.len(), 1);
    // None may stay for ever.
    for mut stream in dawdlers {
        let mut end = Vec::new();
        let _ = in_time("the listener gives up", stream.read_to_end(&mut end)).await;
        let end = String::from_utf8_lossy(&end).into_owned();
        assert!(!end.contains("200 OK"), "{end}");
    }
    assert_eq!(scene.events().await.len(), 1);
}

/// As many as would fill every place, and some more.
#[tokio::test]
async fn scrapers_that_never_read_do_not_hold_the_probes() {
    let scene = Scene::plain().await;
    let scrapers = (0..270).map(|_| stalled_scraper(scene.address));
    let _scrapers = futures::future::join_all(scrapers).await;

    let healthz = format!("http://{}/healthz", scene.address);
    let answer = in_time("a probe is answered", reqwest::get(healthz)).await;

    assert_eq!(answer.unwrap().text().await.unwrap(), "alive\n");
    scene.push(&sent_event("oWelcome", 2)).await;
    assert_eq!(scene.events().await.len(), 1);
}

/// WeChat drops a push that is not answered within five seconds, which is the client's deadline here.
#[tokio::test]
async fn a_thousand_dawdling_heads_and_bodies_do_not_keep_a_push_beyond_wechats_patience() {
    let scene = Scene::plain().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n",
        signed_target(&scene)
    );
    let (connected, mut dawdling) = mpsc::unbounded_channel();
    let mut dawdlers = JoinSet::new();
    for number in 0..1000 {
        let rest = if number % 2 == 0 { "" } else { "\r\n{" };
        let (said, connected, address) = (head.clone() + rest, connected.clone(), scene.address);
        dawdlers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            connected.send(()).unwrap();
            // It may have been ended already.
            let _ = stream.write_all(said.as_bytes()).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
    }
    for _ in 0..300 {
        dawdling.recv().await.unwrap();
    }
    let wechat = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap();

    let push = wechat.post(scene.url()).query(&Scene::query());
    let answer = push
        .body(sent_event("oWelcome", 2).to_string())
        .send()
        .await;

    assert_eq!(answer.unwrap().text().await.unwrap(), "success");
    assert_eq!(scene.events().await.len(), 1);
}

/// A request that is being answered keeps its place, whoever comes meanwhile.
#[tokio::test]
async fn a_push_that_waits_for_the_database_is_not_ended_for_newcomers() {
    let scene = Scene::plain().await;
    let mut lock = scene.pool().begin().await.unwrap();
    sqlx::query("lock table wechat_events in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let event = sent_event("oPatient", 2).to_string();
    let mut push = TcpStream::connect(scene.address).await.unwrap();
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{event}",
        signed_target(&scene),
        event.len()
    );
    push.write_all(request.as_bytes()).await.unwrap();
    crate::harness::eventually("the push waits for the table", async || {
        let waits = "select true from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        sqlx::query(waits).fetch_optional(scene.pool()).await.unwrap()
    })
    .await;
    let newcomers = (0..400).map(|_| TcpStream::connect(scene.address));
    let _newcomers = futures::future::join_all(newcomers).await;
    let healthz = format!("http://{}/healthz", scene.address);
    reqwest::get(healthz).await.unwrap();
    lock.rollback().await.unwrap();

    let mut answer = String::new();
    in_time("an answer", push.read_to_string(&mut answer))
        .await
        .unwrap();

    // Stored, or told to come again when this machine was slow; never cut off.
    assert!(["200", "503"].contains(&status_of(&answer)), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_hung_up_on() {
    let health = Health::new(Duration::from_secs(1));
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let _guard = shutdown.clone().drop_guard();
    tokio::spawn(http::serve(
        listener,
        health,
        telemetry::record_metrics(),
        shutdown,
    ));
    let mut scraper = stalled_scraper(address).await;

    let writing = async {
        while scraper
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .is_ok()
        {}
    };
    in_time("it is hung up on", writing).await;
}
