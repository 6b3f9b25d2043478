//! The HTTP listener under attack: whatever a stranger sends, nothing is stored, nothing is told, and others are served.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::callbacks::{Scene, sent_event};
use crate::harness::in_time;
use crate::kernel::APP;

/// What the listener answers to raw bytes; empty when it only closes the connection.
async fn answer(scene: &Scene, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(scene.address).await.unwrap();
    // It may close its half before it has read everything.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
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
    let metrics = answer(
        &scene,
        b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
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
