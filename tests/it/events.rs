//! WeChat's events from the callback to the views: what settles a doubt, what completes a sent row, and what is refused.
//!
//! [`Scene`] has the receiver on a listener of its own and no worker: the kernel's functions play it, so that events can
//! come at any moment of a row's life. `working` runs the worker itself.

mod ingesting;
mod pushing;
mod receiving;
mod settling;
mod unconfirmed;
mod working;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use wxnotify::http::callback::Callbacks;
use wxnotify::http::{self, Health};
use wxnotify::store::{Route, Store};
use wxnotify::telemetry;
use wxnotify::wechat::callback::cipher::AesKey;
use wxnotify::wechat::callback::{Receiver, sign};

use crate::harness::{self, PATIENCE};
use crate::kernel::{self, APP, Outcome, Queue};

const TOKEN: &str = "callbackToken01";

const AESKEY: &str = "q1Os1ZMe0nG28KUEx9lg3HjK7V5QyXvi212fzsgDqg0";

const MSGID: i64 = 2_875_012_345_678_901_235;

const APPID: &str = "wx1111222233334444";

pub struct Scene {
    queue: Queue,
    pub address: SocketAddr,
    http: reqwest::Client,
    _listening: DropGuard,
}

impl Scene {
    pub async fn plain() -> Self {
        Self::with(None).await
    }

    async fn safe() -> Self {
        Self::with(Some(AESKEY)).await
    }

    async fn with(aeskey: Option<&str>) -> Self {
        let queue = Queue::new().await;
        let aeskey = aeskey.map(|key| AesKey::from_encoding_aeskey(key).unwrap());
        let receiver = Receiver::new(APP.to_owned(), TOKEN.into(), aeskey);
        let store = Store::connect_lazy(
            queue.url().parse().unwrap(),
            Route::Direct,
            2,
            Duration::from_millis(900),
        );
        let callbacks = Callbacks::new([receiver], store).unwrap();
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let listening = shutdown.clone().drop_guard();
        let health = Health::new(Duration::from_secs(1));
        let metrics = telemetry::record_metrics();
        let routes = callbacks.into_router();
        tokio::spawn(http::serve_with(
            listener, health, metrics, routes, shutdown,
        ));
        Self {
            queue,
            address,
            http: reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .unwrap(),
            _listening: listening,
        }
    }

    pub fn pool(&self) -> &sqlx::PgPool {
        self.queue.pool()
    }

    pub fn url(&self) -> String {
        format!("http://{}/wechat/callback/{APP}", self.address)
    }

    /// A query signed now, in plaintext mode.
    pub fn query() -> Vec<(&'static str, String)> {
        let timestamp = chrono::Utc::now().timestamp().to_string();
        vec![
            ("signature", sign(TOKEN, &timestamp, "nonce1", None)),
            ("timestamp", timestamp),
            ("nonce", "nonce1".to_owned()),
        ]
    }

    pub async fn post(
        &self,
        query: &[(&'static str, String)],
        body: impl Into<reqwest::Body>,
    ) -> (u16, String) {
        let request = self.http.post(self.url()).query(query).body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Pushes an event in plaintext; it must be taken.
    pub async fn push(&self, event: &Value) {
        let answer = self.post(&Self::query(), event.to_string()).await;
        assert_eq!(answer, (200, "success".to_owned()));
    }

    pub async fn events(&self) -> Vec<Value> {
        sqlx::query_scalar("select to_jsonb(e) from wechat_events e order by id")
            .fetch_all(self.queue.pool())
            .await
            .unwrap()
    }

    /// What maintenance does each second.
    async fn apply(&self) {
        let store = Store::new(self.queue.pool().clone());
        store.weigh().await.unwrap();
        store.apply_events().await.unwrap();
    }

    /// Settles one row as sent with this msgid.
    async fn send(&self, openid: &str, msgid: i64) -> i64 {
        let id = self.queue.enqueue(json!({"openid": openid})).await;
        let lease = self.queue.lease_and_start("worker/1").await;
        self.settle_sent(&lease, id, msgid).await;
        id
    }

    async fn settle_sent(&self, lease: &kernel::Lease, id: i64, msgid: i64) {
        let sent = Outcome {
            msgid: Some(msgid),
            ..Outcome::sent(id)
        };
        self.queue.settle(lease, &[sent]).await;
    }

    /// A row whose worker vanished after it began to send.
    async fn doubt(&self, openid: &str) -> i64 {
        let id = self.queue.enqueue(json!({"openid": openid})).await;
        self.queue.lease_and_start("worker/1").await;
        self.queue.expire_leases().await;
        assert_eq!(self.queue.rescue().await, 1);
        id
    }

    async fn shown(&self, id: i64) -> Value {
        let statement = "select to_jsonb(n) from notifications n where id = $1";
        sqlx::query_scalar(statement)
            .bind(id)
            .fetch_one(self.queue.pool())
            .await
            .unwrap()
    }

    /// Status, who settled it, msgid as text, receipt's code and status.
    async fn fate(&self, id: i64) -> String {
        let n = self.shown(id).await;
        let word = |name: &str| match &n[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        [
            "status",
            "settled_by",
            "msgid",
            "receipt_code",
            "receipt_status",
        ]
        .map(word)
        .join(" ")
    }
}

/// A sent event of the user's message from template-1, now.
pub fn sent_event(openid: &str, msgid: i64) -> Value {
    sent_event_at(openid, msgid, chrono::Utc::now().timestamp())
}

fn sent_event_at(openid: &str, msgid: i64, created: i64) -> Value {
    json!({
        "ToUserName": "gh_0123456789ab", "FromUserName": openid, "CreateTime": created, "MsgType": "event",
        "Event": "subscribe_msg_sent_event",
        "List": {"TemplateId": "template-1", "MsgID": msgid.to_string(), "ErrorCode": "0", "ErrorStatus": "success"},
    })
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    harness::eventually(what, async || holds().await.then_some(())).await;
}
