//! A forward proxy on the way to WeChat.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{APP, Scene};
use crate::harness::eventually;
use crate::security::tls::server_of;

const HOST: &str = "api.weixin.qq.com";

/// Takes CONNECT with the password alone and leads to a WeChat that speaks TLS. What it was asked.
async fn proxy(acceptor: TlsAcceptor, wechat: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, wechat, heads) = (acceptor.clone(), wechat.clone(), heads.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = String::from_utf8(head).unwrap();
                // "user:p@ss" in Base64.
                let is_known = head
                    .to_lowercase()
                    .contains("proxy-authorization: basic dxnlcjpwqhnz");
                heads.lock().unwrap().push(head);
                if !is_known {
                    let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
                    return client.write_all(refusal).await.map(|()| (0, 0));
                }
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(wechat).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    (port, asked)
}

#[tokio::test]
async fn every_request_goes_through_the_forward_proxy_and_none_without_its_password() {
    let scene = Scene::new().await;
    let (root, acceptor) = server_of(HOST);
    let (port, asked) = proxy(acceptor, scene.fake.address().to_string()).await;
    let through = |password: &str| format!("http://user:{password}@127.0.0.1:{port}");
    let base = format!("https://{HOST}");
    let spawn = |proxy: &str| {
        scene.spawn(&[
            ("WXNOTIFY_API_BASE", &base),
            ("WXNOTIFY_HTTPS_PROXY", proxy),
            ("SSL_CERT_FILE", root.path().to_str().unwrap()),
        ])
    };
    let id = scene.insert("oUser", json!({})).await;
    let mut stranger = spawn(&through("hunter2"));
    stranger
        .until_logged(&format!("Rows of {APP} are not sent"))
        .await;
    assert_eq!(scene.wechat.counts().sends_arrived, 0);
    assert!(!stranger.log().contains("hunter2"), "{}", stranger.log());
    assert!(!scene.seen(id).await.doubted);
    stranger.kill().await;
    scene.lapse_pauses().await;

    let worker = spawn(&through("p%40ss"));
    eventually("the row is sent", async || {
        (scene.status(id).await == "sent").then_some(())
    })
    .await;
    assert!(!worker.log().contains("p%40ss") && !worker.log().contains("p@ss"));
    let asked = asked.lock().unwrap();
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\n");
    assert!(
        asked.iter().all(|head| head.starts_with(&connect)),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_heeded_and_that_is_said() {
    let scene = Scene::new().await;
    let nobody = [("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:1")];
    let worker = scene.spawn(&nobody);
    worker
        .until_logged("HTTPS_PROXY is set and not heeded")
        .await;
    let id = scene.insert("oUser", json!({})).await;
    scene.until(id, "sent").await;
    assert!(!worker.log().contains("hunter2"));
}
