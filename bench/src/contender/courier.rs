//! The HTTP client of every contender written in Rust, with the options of wxnotify's own.

use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

/// Sends bodies to the fake WeChat.
#[derive(Debug, Clone)]
pub struct Courier {
    client: reqwest::Client,
    url: reqwest::Url,
}

#[derive(Deserialize)]
struct Reply {
    errcode: i64,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
}

impl Courier {
    /// Fetches a token once; connects anew for each of `connections` requests in flight, then keeps them.
    pub async fn new(base_url: &str, connections: usize) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(connections)
            .connect_timeout(Duration::from_secs(3))
            .build()?;
        let token: TokenReply = client
            .post(format!("{base_url}/cgi-bin/stable_token"))
            .json(&serde_json::json!({
                "grant_type": "client_credential", "appid": crate::message::APPID, "secret": "bench-secret"
            }))
            .send()
            .await?
            .json()
            .await
            .context("no token")?;
        let url = format!(
            "{base_url}/cgi-bin/message/subscribe/send?access_token={}",
            token.access_token
        );
        Ok(Self {
            client,
            url: url.parse()?,
        })
    }

    /// One message; an errcode other than 0 is an error.
    pub async fn send(&self, body: Vec<u8>) -> anyhow::Result<()> {
        let reply = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json; charset=utf-8")
            .timeout(Duration::from_secs(10))
            .body(body)
            .send()
            .await?
            .bytes()
            .await?;
        let reply: Reply = serde_json::from_slice(&reply)?;
        anyhow::ensure!(reply.errcode == 0, "errcode {}", reply.errcode);
        Ok(())
    }
}
