//! WeChat's callbacks from the fake to the views: what settles a doubt, what completes a sent row, and what is refused.
//!
//! [`Scene`] has the receiver on a listener of its own and, in most tests, no worker: the kernel's functions play it, so
//! that events can come at any moment of a row's life. The last tests run the worker itself.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use wxnotify::config::{Settings, Sources};
use wxnotify::http::callback::Callbacks;
use wxnotify::http::{self, Health};
use wxnotify::simulate::{
    Action, Answer, CallbackFormat, CallbackMode, CallbackSpec, CallbackTiming, Control,
    FakeWechat, ListShape, Rule, SimulateOptions, Tap, TapAnswer, Why43101,
};
use wxnotify::store::{Route, Store};
use wxnotify::telemetry;
use wxnotify::wechat::callback::cipher::AesKey;
use wxnotify::wechat::callback::{Receiver, STORED_EVENTS, sign};
use wxnotify::worker::{self, RunOptions};

use crate::harness::{self, wxnotify};
use crate::kernel::{self, APP, Outcome, Queue};

const TOKEN: &str = "callbackToken01";
const AESKEY: &str = "q1Os1ZMe0nG28KUEx9lg3HjK7V5QyXvi212fzsgDqg0";
const MSGID: i64 = 2_875_012_345_678_901_235;
/// How long a test waits for what must come; reached only when it fails.
const PATIENCE: Duration = Duration::from_secs(60);

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

#[tokio::test]
async fn the_sent_event_ends_a_doubt_without_a_second_send() {
    let scene = Scene::plain().await;
    let id = scene.doubt("user-1").await;
    let event = sent_event("user-1", MSGID);
    scene.push(&event).await;
    scene.apply().await;
    let fate = format!("sent event {MSGID} 0 success");
    assert_eq!(scene.fate(id).await, fate);
    assert!(scene.queue.lease("worker/2").await.is_none());

    // The redelivered event changes nothing.
    let before = scene.shown(id).await;
    scene.push(&event).await;
    scene.apply().await;
    assert_eq!(scene.shown(id).await, before);
}

#[tokio::test]
async fn the_event_may_come_before_the_rescue() {
    let scene = Scene::plain().await;
    let id = scene.queue.enqueue(json!({"openid": "user-1"})).await;
    scene.queue.lease_and_start("worker/1").await;
    scene.push(&sent_event("user-1", MSGID)).await;
    scene.apply().await;
    assert_eq!(
        scene.queue.state(id).await,
        "pending",
        "in flight: nothing is settled yet"
    );
    scene.queue.expire_leases().await;
    scene.queue.rescue().await;
    scene.queue.make_due(id).await;
    assert!(
        scene.queue.lease("worker/2").await.is_none(),
        "evidence forbids a second send"
    );
    scene.apply().await;
    assert_eq!(scene.queue.history(id).await.settled_by, "event");
}

/// WeChat dates events in whole seconds and by its own clock, so the event of a send may be dated before it.
#[tokio::test]
async fn an_event_dated_a_little_early_is_evidence_and_one_of_a_minute_ago_is_not() {
    let scene = Scene::plain().await;
    let id = scene.doubt("user-1").await;
    let since = scene
        .queue
        .pending(id)
        .await
        .in_doubt_since
        .unwrap()
        .timestamp();
    scene.push(&sent_event_at("user-1", 71, since - 60)).await;
    scene.apply().await;
    assert_eq!(scene.queue.state(id).await, "pending: doubt");
    scene.push(&sent_event_at("user-1", 72, since - 3)).await;
    scene.apply().await;
    assert_eq!(scene.queue.history(id).await.msgid, Some(72));
}

#[tokio::test]
async fn the_event_of_an_earlier_message_to_the_same_user_is_no_evidence() {
    let scene = Scene::plain().await;
    let earlier = scene.send("user-1", 70).await;
    let doubtful = scene.doubt("user-1").await;
    scene.push(&sent_event("user-1", 70)).await;
    scene.apply().await;
    assert_eq!(scene.queue.state(doubtful).await, "pending: doubt");
    assert_eq!(scene.fate(earlier).await, "sent reply 70 0 success");
}

#[tokio::test]
async fn an_event_that_comes_before_its_row_is_settled_is_its_receipt_later() {
    let scene = Scene::plain().await;
    let id = scene.queue.enqueue(json!({"openid": "user-1"})).await;
    let lease = scene.queue.lease_and_start("worker/1").await;
    scene.push(&sent_event("user-1", MSGID)).await;
    scene.apply().await;
    assert_eq!(scene.shown(id).await["receipt_at"], Value::Null);

    scene.settle_sent(&lease, id, MSGID).await;
    assert_eq!(
        scene.fate(id).await,
        format!("sent reply {MSGID} null null")
    );
    scene
        .queue
        .force("update wechat_events set apply_at = now()")
        .await;
    scene.apply().await;
    assert_eq!(
        scene.fate(id).await,
        format!("sent reply {MSGID} 0 success")
    );
}

#[tokio::test]
async fn a_failure_that_the_event_reports_is_shown_and_nothing_is_sent_again() {
    let scene = Scene::plain().await;
    let id = scene.send("user-1", MSGID).await;
    let mut event = sent_event("user-1", MSGID);
    event["List"]["ErrorCode"] = json!("1");
    event["List"]["ErrorStatus"] = json!("system failed");
    scene.push(&event).await;
    scene.apply().await;
    assert_eq!(
        scene.fate(id).await,
        format!("sent reply {MSGID} 1 system failed")
    );
    assert!(
        scene.shown(id).await["reason"]
            .as_str()
            .unwrap()
            .contains("system failed")
    );
    let story: Value = sqlx::query_scalar("select to_jsonb(e) from explain_notification($1) e")
        .bind(id)
        .fetch_one(scene.queue.pool())
        .await
        .unwrap();
    assert!(
        story["sentence"]
            .as_str()
            .unwrap()
            .contains("system failed"),
        "{story}"
    );
    assert!(
        story["sentence_zh"].as_str().unwrap().contains("回执"),
        "{story}"
    );
    assert!(
        story["what_next"]
            .as_str()
            .unwrap()
            .contains("not sent again"),
        "{story}"
    );
    let last = story["timeline"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(
        (&last["event"], &last["code"]),
        (&json!("receipt"), &json!(1))
    );

    // A later word of WeChat about the same message replaces the earlier one, an earlier one does not.
    let now = chrono::Utc::now().timestamp();
    scene.push(&sent_event_at("user-1", MSGID, now + 2)).await;
    scene
        .push(&{
            let mut older = sent_event_at("user-1", MSGID, now - 30);
            older["List"]["ErrorCode"] = json!("2");
            older
        })
        .await;
    scene.apply().await;
    assert_eq!(
        scene.fate(id).await,
        format!("sent reply {MSGID} 0 success")
    );
}

#[tokio::test]
async fn what_was_never_confirmed_is_listed_once_confirmations_do_arrive() {
    let scene = Scene::plain().await;
    let unconfirmed = || async {
        sqlx::query_scalar::<_, i64>("select id from notification_unconfirmed order by id")
            .fetch_all(scene.queue.pool())
            .await
            .unwrap()
    };
    let first = scene.send("user-1", 1).await;
    let second = scene.send("user-2", 2).await;
    let third = scene.send("user-3", 3).await;
    let age = "update notification_history set finished_at = finished_at - interval '2 hours' where id = any ($1)";
    sqlx::query(age)
        .bind(vec![first, second])
        .execute(scene.queue.pool())
        .await
        .unwrap();
    assert!(
        unconfirmed().await.is_empty(),
        "this app's callbacks reach nobody"
    );

    scene.push(&sent_event("user-1", 1)).await;
    scene.apply().await;
    assert!(
        unconfirmed().await.is_empty(),
        "accepted before the first confirmation"
    );
    let first_receipt = "update wechat_apps set first_receipt_at = now() - interval '1 day'";
    scene.queue.force(first_receipt).await;
    assert_eq!(
        unconfirmed().await,
        [second],
        "not {first} nor the young {third}"
    );
}

#[tokio::test]
async fn a_message_of_another_system_is_looked_for_ever_less_and_then_given_up() {
    let scene = Scene::plain().await;
    scene.push(&sent_event("stranger", 9)).await;
    let again =
        "select extract(epoch from apply_at - clock_timestamp())::float8 from wechat_events";
    let wait = || async {
        sqlx::query_scalar::<_, Option<f64>>(again)
            .fetch_one(scene.queue.pool())
            .await
            .unwrap()
    };
    let age = |span: &'static str| {
        let statement = format!(
            "update wechat_events set apply_at = clock_timestamp(), received_at = clock_timestamp() - interval '{span}'"
        );
        async move { statement }
    };
    scene.apply().await;
    assert!((0.1..=1.1).contains(&wait().await.unwrap()));
    scene.queue.force(&age("1 hour").await).await;
    scene.apply().await;
    assert!((3590.0..=3601.0).contains(&wait().await.unwrap()));
    scene.queue.force(&age("9 days").await).await;
    scene.apply().await;
    assert_eq!(wait().await, None);
    assert_eq!(scene.events().await[0]["applied_at"], Value::Null);
}

#[tokio::test]
async fn the_url_is_verified_with_its_echo_and_nothing_else() {
    let scene = Scene::safe().await;
    let mut query = Scene::query();
    query.push(("echostr", "4375120948345356249<b>".to_owned()));
    let get = |query: Vec<(&'static str, String)>| scene.http.get(scene.url()).query(&query).send();
    let response = get(query.clone()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    assert_eq!(response.text().await.unwrap(), "4375120948345356249<b>");
    query[0].1 = "0".repeat(40);
    assert_eq!(get(query).await.unwrap().status(), 403);
    assert_eq!(get(vec![]).await.unwrap().status(), 403);
    let elsewhere = format!("http://{}/wechat/callback/wx-unknown", scene.address);
    assert_eq!(
        scene.http.get(elsewhere).send().await.unwrap().status(),
        403
    );
}

/// How often `/metrics` says that callbacks ended so.
fn counted(result: &str) -> u64 {
    let label = format!("wxnotify_callbacks_total{{appid=\"{APP}\",result=\"{result}\"}} ");
    let rendered = telemetry::record_metrics().render();
    let line = rendered.lines().find_map(|line| line.strip_prefix(&label));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn what_is_forged_replayed_broken_or_too_large_is_refused_and_counted() {
    let scene = Scene::plain().await;
    let event = sent_event("user-1", MSGID).to_string();
    let mut forged = Scene::query();
    forged[0].1 = sign("anotherToken", &forged[1].1, "nonce1", None);
    let old = (chrono::Utc::now().timestamp() - 3600).to_string();
    let replayed = vec![
        ("signature", sign(TOKEN, &old, "nonce1", None)),
        ("timestamp", old),
        ("nonce", "nonce1".to_owned()),
    ];
    let good = Scene::query();
    let spaces = " ".repeat(64 * 1024);
    let cases: Vec<(&Vec<_>, Vec<u8>, u16, &str)> = vec![
        (&forged, event.clone().into(), 403, "bad_signature"),
        (&replayed, event.clone().into(), 403, "stale"),
        (&good, event[..event.len() / 2].into(), 403, "malformed"),
        (
            &good,
            b"<xml><Event>\xff\xfe</Event></xml>".to_vec(),
            403,
            "not_utf8",
        ),
        (&good, (event.clone() + &spaces).into(), 403, "oversized"),
        (
            &good,
            b"<!DOCTYPE x [<!ENTITY a 'b'>]><xml><Event>&a;</Event></xml>".to_vec(),
            403,
            "malformed",
        ),
        (&good, b"".to_vec(), 403, "malformed"),
        (
            &good,
            event.replace("CreateTime", "CreatedTime").into(),
            400,
            "malformed",
        ),
        (
            &good,
            event.replace("TemplateId", "Template").into(),
            400,
            "malformed",
        ),
    ];
    for (query, body, status, result) in cases {
        let before = counted(result);
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let (answered, text) = scene.post(query, body).await;
        assert_eq!(answered, status, "{result}: {shown}");
        assert!(!text.contains("user-1") && !text.contains(TOKEN), "{text}");
        assert!(counted(result) > before, "{result} is counted");
    }
    assert!(scene.events().await.is_empty());
    let unsigned = scene.post(&[], event).await;
    assert_eq!(unsigned.0, 403);
}

/// Neither the status nor the text nor a header tells a stranger which mini-programs are served, nor in which mode.
#[tokio::test]
async fn a_stranger_cannot_tell_a_known_app_from_an_unknown_one() {
    for scene in [Scene::plain().await, Scene::safe().await] {
        let unknown = scene.url().replace(APP, "wx-unknown");
        let bodies: [Vec<u8>; 5] = [
            b"{}".to_vec(),
            b"<xml>".to_vec(),
            b"\xff".to_vec(),
            vec![b' '; 70_000],
            sent_event("user-1", MSGID).to_string().into(),
        ];
        for body in bodies {
            for query in [
                vec![("signature", "00")],
                vec![("encrypt_type", "aes")],
                vec![],
            ] {
                let ask = async |url: &str| {
                    let request = scene.http.post(url).query(&query).body(body.clone());
                    let response = request.send().await.unwrap();
                    let mut headers = response.headers().clone();
                    headers.remove("date");
                    (response.status(), headers, response.text().await.unwrap())
                };
                assert_eq!(ask(&scene.url()).await, ask(&unknown).await);
            }
        }
        let get = async |url: &str| {
            scene
                .http
                .get(url)
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
        };
        assert_eq!(get(&scene.url()).await, get(&unknown).await);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_stored() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let scene = Scene::plain().await;
    let query = reqwest::Url::parse_with_params(&scene.url(), Scene::query()).unwrap();
    let target = format!("{}?{}", query.path(), query.query().unwrap());
    let mut stream = tokio::net::TcpStream::connect(scene.address).await.unwrap();
    let event = sent_event("user-1", MSGID).to_string();
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        event.len() + 10
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(event.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn with_a_key_a_plain_event_is_refused_even_when_it_is_signed() {
    let scene = Scene::safe().await;
    let (status, text) = scene
        .post(&Scene::query(), sent_event("user-1", MSGID).to_string())
        .await;
    assert_eq!((status, text.as_str()), (403, "refused"));
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn a_database_that_hangs_or_is_away_gets_an_error_within_a_second() {
    let scene = Scene::plain().await;
    let mut holder = scene.queue.session().await;
    kernel::run(&mut holder, "begin").await;
    kernel::run(&mut holder, "lock table wechat_events").await;
    let event = sent_event("user-1", MSGID);
    // Every answer comes while the table is still locked. On a busy machine one may be late, through no fault of ours.
    let mut fastest = PATIENCE;
    for _ in 0..3 {
        let asked_at = Instant::now();
        let (status, _) = scene.post(&Scene::query(), event.to_string()).await;
        assert_eq!(status, 503, "so that WeChat pushes it again");
        fastest = fastest.min(asked_at.elapsed());
    }
    assert!(fastest < Duration::from_millis(1500), "{fastest:?}");
    kernel::run(&mut holder, "rollback").await;
    // Pushed again it is stored, once, whatever became of the statements that were given up.
    eventually("the database answers again", async || {
        scene.post(&Scene::query(), event.to_string()).await.0 == 200
    })
    .await;
    assert_eq!(scene.events().await.len(), 1);
}

#[tokio::test]
async fn chat_messages_and_unknown_events_get_success_and_are_forgotten() {
    let scene = Scene::plain().await;
    for event in [
        json!({"MsgType": "text", "FromUserName": "user-1", "Content": "secret words"}),
        json!({"MsgType": "event", "Event": "user_enter_tempsession", "CreateTime": 1_760_000_000}),
    ] {
        scene.push(&event).await;
    }
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn every_shape_of_an_event_is_stored_alike_and_once() {
    let scene = Scene::plain().await;
    let created = chrono::Utc::now().timestamp();
    let entry = json!({"TemplateId": "template-1", "MsgID": MSGID.to_string(), "ErrorCode": "0", "ErrorStatus": "success"});
    let numbers = json!({"TemplateId": "template-1", "MsgID": MSGID, "ErrorCode": 0, "ErrorStatus": "success"});
    let common = json!({"FromUserName": "user-1", "CreateTime": created, "MsgType": "event", "Event": "subscribe_msg_sent_event"});
    let with = |name: &str, value: Value| {
        let mut event = common.clone();
        event[name] = value;
        event
    };
    let mut texts = with("List", entry.clone());
    texts["CreateTime"] = json!(created.to_string());
    for event in [
        with("List", entry.clone()),
        with("List", json!([entry])),
        with("List", numbers.clone()),
        with("SubscribeMsgSentEvent", json!({"List": entry})),
        with("SubscribeMsgSentEvent", json!({"List": [numbers]})),
        texts,
    ] {
        scene.push(&event).await;
    }
    let xml = format!(
        "<xml><FromUserName><![CDATA[user-1]]></FromUserName><CreateTime>{created}</CreateTime><MsgType>event</MsgType>\
         <Event>subscribe_msg_sent_event</Event><SubscribeMsgSentEvent><List><TemplateId>template-1</TemplateId><MsgID>{MSGID}</MsgID>\
         <ErrorCode>0</ErrorCode><ErrorStatus><![CDATA[success]]></ErrorStatus></List></SubscribeMsgSentEvent></xml>"
    );
    assert_eq!(scene.post(&Scene::query(), xml).await.0, 200);
    let events = scene.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        events[0]["payload"]["List"]["MsgID"],
        json!(MSGID.to_string())
    );
    assert_eq!(events[0]["msgid"], json!(MSGID));
}

#[tokio::test]
async fn every_entry_of_a_list_is_a_row_of_its_own() {
    let scene = Scene::plain().await;
    let event = json!({
        "FromUserName": "user-1", "CreateTime": chrono::Utc::now().timestamp(), "MsgType": "event",
        "Event": "subscribe_msg_popup_event",
        "List": [{"TemplateId": "A", "SubscribeStatusString": "accept", "PopupScene": "0"},
                 {"TemplateId": "B", "SubscribeStatusString": "reject", "PopupScene": "0"}],
    });
    scene.push(&event).await;
    scene.push(&event).await;
    let events = scene.events().await;
    let templates: Vec<_> = events
        .iter()
        .map(|event| event["template_id"].as_str().unwrap())
        .collect();
    assert_eq!(templates, ["A", "B"]);
    assert_eq!(
        events[1]["payload"]["List"]["SubscribeStatusString"],
        "reject"
    );
    assert_eq!(events[1]["payload"]["FromUserName"], "user-1");
    assert_eq!(
        (&events[0]["answer"], &events[1]["answer"]),
        (&json!("accept"), &json!("reject"))
    );
}

#[tokio::test]
async fn what_the_receiver_keeps_the_database_keeps_too() {
    let scene = Scene::plain().await;
    for event in STORED_EVENTS {
        let payload =
            json!({"Event": event, "CreateTime": 1_760_000_000, "List": {"TemplateId": "T"}});
        assert_eq!(ingest(&scene, &payload).await, Ok(Some(1)), "{event}");
        assert_eq!(ingest(&scene, &payload).await, Ok(Some(0)), "{event}");
    }
    assert_eq!(
        ingest(&scene, &json!({"Event": "user_enter_tempsession"})).await,
        Ok(None)
    );
    assert_eq!(ingest(&scene, &json!({"MsgType": "text"})).await, Ok(None));
    // A punishment without a time is dated by us.
    assert_eq!(
        ingest(
            &scene,
            &json!({"Event": "wxa_punish_event", "punish_id": 5})
        )
        .await,
        Ok(Some(1))
    );
}

/// Ingests in SQL; an error is its message.
async fn ingest(scene: &Scene, payload: &Value) -> Result<Option<i32>, String> {
    sqlx::query_scalar("select wxnotify_ingest_event($1, $2)")
        .bind(APP)
        .bind(payload)
        .fetch_one(scene.queue.pool())
        .await
        .map_err(|error| error.as_database_error().unwrap().message().to_owned())
}

#[tokio::test]
async fn sql_refuses_what_is_no_event_and_says_why_without_its_text() {
    let scene = Scene::plain().await;
    let event = |list: Value| json!({"Event": "subscribe_msg_sent_event", "FromUserName": "oSecret", "CreateTime": 1_760_000_000, "List": list});
    for (payload, words) in [
        (json!([]), "JSON object"),
        (json!("x"), "JSON object"),
        (
            json!({"Event": "subscribe_msg_sent_event", "List": {"TemplateId": "T"}}),
            "CreateTime",
        ),
        (
            json!({"Event": "subscribe_msg_sent_event", "CreateTime": "soon", "List": {}}),
            "CreateTime",
        ),
        (
            json!({"Event": "subscribe_msg_sent_event", "CreateTime": -1, "List": {}}),
            "CreateTime",
        ),
        (event(Value::Null), "List"),
        (event(json!([])), "List"),
        (event(json!("x")), "List"),
        (event(json!([1])), "List"),
        (event(json!({"MsgID": "1"})), "List"),
        (event(json!({"TemplateId": ""})), "List"),
        (event(json!({"TemplateId": "x".repeat(129)})), "List"),
        (event(json!(vec![json!({"TemplateId": "T"}); 101])), "List"),
        (
            event(json!({"TemplateId": "T", "more": "x".repeat(200_000)})),
            "too large",
        ),
    ] {
        let refused = ingest(&scene, &payload).await;
        let message = match refused {
            Err(message) => message,
            // An empty list is no event, but nothing to complain of either.
            Ok(stored) => panic!("{payload} was taken: {stored:?}"),
        };
        assert!(message.contains(words), "{message}");
        assert!(!message.contains("oSecret"), "{message}");
    }
    // Odd ids of an otherwise sound event are kept, as no evidence.
    for odd in [
        json!("12x"),
        json!("99999999999999999999"),
        json!(1.5),
        json!(null),
        json!(-5),
    ] {
        assert_eq!(
            ingest(&scene, &event(json!({"TemplateId": "T", "MsgID": odd}))).await,
            Ok(Some(1))
        );
    }
    let with_id = scene
        .events()
        .await
        .iter()
        .filter(|event| !event["msgid"].is_null())
        .count();
    assert_eq!(with_id, 0);
}

#[tokio::test]
async fn who_hands_on_events_needs_to_be_allowed_that_alone() {
    let scene = Scene::plain().await;
    // Roles belong to the whole server: in a transaction they are gone again.
    let mut session = scene.queue.session().await;
    kernel::run(&mut session, "begin").await;
    kernel::run(&mut session, "create role hander_on").await;
    kernel::run(&mut session, "set local role hander_on").await;
    let call = "select wxnotify_ingest_event('wx', '{\"Event\": \"wxa_punish_event\"}')";
    let ingest = |statement: &'static str| sqlx::query_scalar::<_, i32>(statement);
    kernel::run(&mut session, "savepoint before").await;
    let error = ingest(call).fetch_one(&mut session).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "42501");
    kernel::run(&mut session, "rollback to savepoint before").await;
    kernel::run(&mut session, "reset role").await;
    let grant = "grant execute on function wxnotify_ingest_event to hander_on";
    kernel::run(&mut session, grant).await;
    kernel::run(&mut session, "set local role hander_on").await;
    assert_eq!(ingest(call).fetch_one(&mut session).await.unwrap(), 1);
    kernel::run(&mut session, "rollback").await;
}

#[tokio::test]
async fn the_command_line_ingests_either_format_and_settles_what_follows() {
    let scene = Scene::plain().await;
    let doubtful = scene.doubt("user-1").await;
    let sent = scene.send("user-2", 2).await;
    let lines = format!(
        "{}\n{}\n{{\"MsgType\":\"text\"}}\n",
        sent_event("user-1", MSGID),
        sent_event("user-2", 2)
    );
    let url = scene.queue.url().to_owned();
    let run = |input: String| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            let mut child = wxnotify()
                .args(["event", "ingest", APP, "--json"])
                .env("DATABASE_URL", url)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(input.as_bytes())
                .unwrap();
            child.wait_with_output().unwrap()
        })
    };
    let output = run(lines.clone()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            &report["stored"],
            &report["known"],
            &report["ignored"],
            &report["doubts_settled"]
        ),
        (&json!(2), &json!(0), &json!(1), &json!(1)),
        "{report}"
    );
    assert_eq!(
        scene.fate(doubtful).await,
        format!("sent event {MSGID} 0 success")
    );
    assert_eq!(scene.fate(sent).await, "sent reply 2 0 success");
    let again: Value = serde_json::from_slice(&run(lines).await.unwrap().stdout).unwrap();
    assert_eq!((&again["stored"], &again["known"]), (&json!(0), &json!(2)));

    let xml = "<xml><Event>subscribe_msg_popup_event</Event><CreateTime>1760000000</CreateTime>
        <SubscribeMsgPopupEvent><List><TemplateId>T</TemplateId></List></SubscribeMsgPopupEvent></xml>";
    let output = run(xml.to_owned()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    for bad in ["", "success", "<xml>", "{\"Event\":"] {
        let output = run(bad.to_owned()).await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad}: {output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("next:"),
            "{output:?}"
        );
    }
}

#[tokio::test]
async fn old_events_are_forgotten_and_young_ones_are_not() {
    let scene = Scene::plain().await;
    for (event, openid) in [
        ("subscribe_msg_sent_event", "a"),
        ("subscribe_msg_popup_event", "b"),
    ] {
        for days in [10, 40, 500] {
            let payload = json!({"Event": event, "FromUserName": format!("{openid}{days}"), "CreateTime": 1_760_000_000,
                "List": {"TemplateId": "T", "MsgID": "7"}});
            let payload = if event.contains("popup") {
                let mut popup = payload;
                popup["List"] = json!({"TemplateId": "T", "SubscribeStatusString": "accept"});
                popup
            } else {
                payload
            };
            assert_eq!(ingest(&scene, &payload).await, Ok(Some(1)));
            let age = format!(
                "update wechat_events set received_at = now() - interval '{days} days' where openid = '{openid}{days}'"
            );
            scene.queue.force(&age).await;
        }
    }
    let store = Store::new(scene.queue.pool().clone());
    // Nobody's message of 40 days ago may yet explain a 43101.
    assert_eq!(store.drop_old_events(13).await.unwrap(), 2);
    scene
        .queue
        .force("update wechat_events set applied_at = received_at where msgid is not null")
        .await;
    assert_eq!(store.drop_old_events(13).await.unwrap(), 1);
    let left: Vec<String> = sqlx::query_scalar("select openid from wechat_events order by openid")
        .fetch_all(scene.queue.pool())
        .await
        .unwrap();
    assert_eq!(left, ["a10", "b10", "b40"]);
    assert_eq!(store.drop_old_events(13).await.unwrap(), 0);
}

/// A worker against the fake, which pushes to the worker's own listener.
struct Stage {
    queue: Queue,
    fake: FakeWechat,
    url: String,
    working: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

const APPID: &str = "wx1111222233334444";

impl Stage {
    async fn new(aeskey: Option<&str>) -> Self {
        let queue = Queue::new().await;
        queue.register(APPID).await;
        let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
        let address = free_address().await;
        let mut sources = Sources::default()
            .with("DATABASE_URL", queue.url())
            .with("WXNOTIFY_API_BASE", &fake.base_url())
            .with("WXNOTIFY_LISTEN", &address.to_string())
            .with("WXNOTIFY_REQUEST_TIMEOUT_SECS", "2")
            .with("WXNOTIFY_CONNECT_TIMEOUT_SECS", "1")
            .with("WXNOTIFY_POLL_SECS", "0.1")
            .with(&format!("WXNOTIFY_APPSECRET_{APPID}"), "secret")
            .with(&format!("WXNOTIFY_CALLBACK_TOKEN_{APPID}"), TOKEN);
        if let Some(aeskey) = aeskey {
            sources = sources.with(&format!("WXNOTIFY_CALLBACK_AESKEY_{APPID}"), aeskey);
        }
        let settings = Settings::load(&sources).unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let working = tokio::spawn(async move {
            worker::run(&settings, RunOptions::default(), token)
                .await
                .unwrap();
        });
        let stage = Self {
            queue,
            fake,
            url: format!("http://{address}/wechat/callback/{{appid}}"),
            working,
            stop,
        };
        eventually("the listener answers", async || {
            reqwest::get(format!("http://{address}/healthz"))
                .await
                .is_ok()
        })
        .await;
        stage
    }

    fn control(&self) -> Control {
        self.fake.control()
    }

    async fn enqueue(&self, openid: &str) -> i64 {
        self.queue
            .enqueue(json!({"appid": APPID, "openid": openid}))
            .await
    }

    async fn row(&self, id: i64) -> Value {
        sqlx::query_scalar("select to_jsonb(n) from notifications n where id = $1")
            .bind(id)
            .fetch_one(self.queue.pool())
            .await
            .unwrap()
    }

    async fn until(&self, id: i64, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || holds(&self.row(id).await)).await;
        self.row(id).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.working.await.unwrap();
    }
}

fn has_receipt(row: &Value) -> bool {
    !row["receipt_at"].is_null()
}

/// Every mode and format from the fake to the view.
#[tokio::test]
async fn every_mode_and_format_confirms_what_was_sent() {
    for aeskey in [None, Some(AESKEY)] {
        let stage = Stage::new(aeskey).await;
        let modes: &[CallbackMode] = match aeskey {
            None => &[CallbackMode::Plaintext],
            Some(_) => &[CallbackMode::Safe, CallbackMode::Compatible],
        };
        let mut user = 0;
        for mode in modes {
            for (format, list, numbers) in [
                (CallbackFormat::Xml, ListShape::Usual, false),
                (CallbackFormat::Json, ListShape::Usual, false),
                (CallbackFormat::Json, ListShape::Array, true),
                (CallbackFormat::Json, ListShape::Wrapped, true),
            ] {
                for timing in [CallbackTiming::BeforeReply, CallbackTiming::AfterReply] {
                    user += 1;
                    stage.control().set_callback(
                        APPID,
                        Some(CallbackSpec {
                            aeskey: aeskey.map(str::to_owned),
                            mode: Some(*mode),
                            format,
                            list,
                            numbers,
                            timing,
                            ..CallbackSpec::new(&stage.url, TOKEN)
                        }),
                    );
                    let what = format!("{mode:?} {format:?} {list:?} {timing:?}");
                    let id = stage.enqueue(&format!("user-{user}")).await;
                    let row = stage.until(id, &what, has_receipt).await;
                    assert_eq!(
                        (
                            &row["status"],
                            &row["settled_by"],
                            &row["receipt_code"],
                            &row["receipt_status"]
                        ),
                        (
                            &json!("sent"),
                            &json!("reply"),
                            &json!(0),
                            &json!("success")
                        ),
                        "{what}"
                    );
                    let calls = stage.control().ledger().calls;
                    let msgid = calls.iter().filter_map(|call| call.msgid).next_back();
                    assert_eq!(row["msgid"].as_i64(), msgid, "{what}: to the last digit");
                }
            }
        }
        assert_eq!(stage.control().counts().callbacks_given_up, 0);
        stage.end().await;
    }
}

#[tokio::test]
async fn a_lost_reply_is_made_good_by_the_sent_event_and_sent_once() {
    let stage = Stage::new(Some(AESKEY)).await;
    for (user, timing, times) in [
        ("user-1", CallbackTiming::BeforeReply, 1),
        ("user-2", CallbackTiming::AfterReply, 1),
        ("user-3", CallbackTiming::AfterReply, 2),
    ] {
        stage.control().set_callback(
            APPID,
            Some(CallbackSpec {
                timing,
                times,
                ..CallbackSpec::new(&stage.url, TOKEN).with_aeskey(AESKEY)
            }),
        );
        let sends = stage.control().counts().sends_arrived;
        stage.control().script(Rule {
            openid: Some(user.to_owned()),
            count: Some(1),
            ..Rule::new(Action::Reset { after_credit: true })
        });
        let id = stage.enqueue(user).await;
        let row = stage.until(id, user, has_receipt).await;
        assert_eq!(
            (&row["status"], &row["settled_by"], &row["receipt_code"]),
            (&json!("sent"), &json!("event"), &json!(0)),
            "{row}"
        );
        assert_eq!(row["may_be_doubled"], json!(false));
        assert_eq!(
            stage.control().counts().sends_arrived,
            sends + 1,
            "{user}: sent once"
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn what_users_tap_parks_and_releases_their_rows() {
    let stage = Stage::new(None).await;
    let control = stage.control();
    control.set_callback(APPID, Some(CallbackSpec::new(&stage.url, TOKEN)));
    let accept = |always_keep| Tap {
        appid: APPID.to_owned(),
        openid: "user-1".to_owned(),
        answers: vec![TapAnswer {
            template_id: "template-1".to_owned(),
            answer: Answer::Accept,
        }],
        always_keep,
    };
    control.tap(&accept(false));
    let first = stage.enqueue("user-1").await;
    stage
        .until(first, "sent", |row| row["status"] == "sent")
        .await;

    control.reject_later(APPID, "user-1", "template-1");
    eventually("the refusal is noted", async || {
        sqlx::query_scalar::<_, bool>("select exists (select from wechat_refusals)")
            .fetch_one(stage.queue.pool())
            .await
            .unwrap()
    })
    .await;
    let earlier = json!({"appid": APPID, "openid": "user-1", "created_at": kernel::in_secs(-60)});
    let second = stage.queue.enqueue(earlier).await;
    stage
        .until(second, "parked", |row| row["status"] == "paused")
        .await;
    assert_eq!(control.counts().sends_arrived, 1);

    // WeChat dates in whole seconds: the accept must be of a later one.
    control.advance_clock(Duration::from_secs(2));
    control.tap(&accept(false));
    stage
        .until(second, "sent", |row| row["status"] == "sent")
        .await;

    control.tap(&accept(true));
    assert!(
        control
            .send_elsewhere(APPID, "user-1", "template-1")
            .is_some()
    );
    let third = stage.enqueue("user-1").await;
    stage
        .until(third, "dead", |row| row["errcode"] == 43101)
        .await;
    let why = control.ledger().calls.last().unwrap().why_43101;
    assert_eq!(why, Some(Why43101::SpentElsewhere));
    eventually(
        "the other system's event tells which 43101 it was",
        async || {
            sqlx::query_scalar::<_, String>(
                "select which || ' ' || certainty from notification_43101 where id = $1",
            )
            .bind(third)
            .fetch_one(stage.queue.pool())
            .await
            .unwrap()
                == "spent_elsewhere certain"
        },
    )
    .await;
    stage.end().await;
}

#[tokio::test]
async fn without_callbacks_nothing_changes() {
    let stage = Stage::new(None).await;
    let sent = stage.enqueue("user-1").await;
    let row = stage
        .until(sent, "sent", |row| row["status"] == "sent")
        .await;
    assert!(!has_receipt(&row));
    stage.control().script(Rule {
        count: Some(1),
        ..Rule::new(Action::Reset { after_credit: true })
    });
    let lost = stage.enqueue("user-2").await;
    stage
        .until(lost, "in doubt", |row| row["status"] == "in_doubt")
        .await;
    let events: i64 = sqlx::query_scalar("select count(*) from wechat_events")
        .fetch_one(stage.queue.pool())
        .await
        .unwrap();
    assert_eq!((events, stage.control().counts().callback_tries), (0, 0));
    stage.end().await;
}

#[tokio::test]
async fn the_fake_pushes_three_times_when_nobody_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let control = fake.control();
    control.set_callback(
        APPID,
        Some(CallbackSpec {
            answer_within_ms: 50,
            ..CallbackSpec::new(url, TOKEN)
        }),
    );
    control.push_popup(APPID, "user-1", &[("T1", "accept"), ("T2", "reject")]);
    let given_up = control.wait_until(|counts| counts.callbacks_given_up == 1);
    tokio::time::timeout(PATIENCE, given_up).await.unwrap();
    assert_eq!(control.counts().callback_tries, 3);
}

#[tokio::test]
async fn popups_and_changes_of_the_fake_are_stored_in_either_format() {
    let scene = Scene::safe().await;
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let control = fake.control();
    for format in [CallbackFormat::Json, CallbackFormat::Xml] {
        control.set_callback(
            APP,
            Some(CallbackSpec {
                format,
                ..CallbackSpec::new(scene.url(), TOKEN).with_aeskey(AESKEY)
            }),
        );
        let user = format!("{format:?}");
        control.push_popup(APP, &user, &[("T1", "accept"), ("T2", "reject")]);
        control.push_change(APP, &user, &[("T1", "reject")]);
    }
    let answered = control.wait_until(|counts| counts.callbacks_answered == 4);
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
    let stored: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', openid, event, template_id, payload #>> '{List,SubscribeStatusString}')
         from wechat_events order by 1",
    )
    .fetch_all(scene.queue.pool())
    .await
    .unwrap();
    let expected: Vec<String> = ["Json", "Xml"]
        .iter()
        .flat_map(|user| {
            [
                format!("{user} subscribe_msg_change_event T1 reject"),
                format!("{user} subscribe_msg_popup_event T1 accept"),
                format!("{user} subscribe_msg_popup_event T2 reject"),
            ]
        })
        .collect();
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn punishments_of_the_fake_show_in_the_view_in_either_format() {
    let scene = Scene::safe().await;
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let control = fake.control();
    for (format, event_type) in [(CallbackFormat::Json, 2), (CallbackFormat::Xml, 4)] {
        control.set_callback(
            APP,
            Some(CallbackSpec {
                format,
                ..CallbackSpec::new(scene.url(), TOKEN).with_aeskey(AESKEY)
            }),
        );
        control.push_punishment(APP, event_type, "诱导订阅", Some("订阅消息"));
    }
    let answered = control.wait_until(|counts| counts.callbacks_answered == 2);
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
    let shown: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', appid, punishment, reason, banned_functions, banned_days) from wechat_punishments order by event_type",
    )
    .fetch_all(scene.queue.pool())
    .await
    .unwrap();
    let of = |punishment: &str| format!("{APP} {punishment} 诱导订阅 订阅消息 7");
    assert_eq!(shown, [of("functions banned"), of("account banned")]);
}

/// Any page that a developer looks at can make the browser POST to loopback.
#[tokio::test]
async fn the_fakes_control_obeys_no_page_and_posts_to_this_machine_alone() {
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let address = fake.base_url().replace("http://", "");
    let url = format!("{}/_control/ledger", fake.base_url());
    let http = reqwest::Client::new();
    let status = async |name: &str, value: &str| {
        let request = http.get(&url).header(name, value);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("x-none", "").await, 200);
    assert_eq!(status("host", "localhost:9").await, 200);
    assert_eq!(
        status("host", "wechat:8080").await,
        200,
        "a container's name"
    );
    assert_eq!(
        status(
            "host",
            &format!("{}.rebind.example", address.replace(':', "-"))
        )
        .await,
        403
    );
    assert_eq!(status("host", "evil.example").await, 403);
    assert_eq!(status("origin", "https://evil.example").await, 403);
    assert_eq!(status("origin", "null").await, 403);
    assert_eq!(status("origin", &fake.base_url()).await, 403);

    let set = async |callback_url: &str| {
        let body =
            json!({"appid": "a.evil.example/", "url": callback_url, "token": TOKEN}).to_string();
        let url = format!("{}/_control/callback", fake.base_url());
        http.post(url)
            .body(body)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    for elsewhere in [
        "http://169.254.169.254/latest",
        "http://internal.example/",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://{appid}:80/",
        "http://{appid}@localhost/",
        "http://0.0.0.0/",
        "http://[::ffff:10.0.0.1]/",
        "file:///etc/passwd",
    ] {
        assert_eq!(set(elsewhere).await, 400, "{elsewhere}");
    }
    for here in [
        "http://127.0.0.1:9/{appid}",
        "http://localhost:9/",
        "http://[::1]:9/",
    ] {
        assert_eq!(set(here).await, 200, "{here}");
    }
}

#[tokio::test]
async fn the_fake_is_told_of_callbacks_over_http_too() {
    let scene = Scene::plain().await;
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let operate = async |operation: &str, body: Value| {
        let url = format!("{}/_control/{operation}", fake.base_url());
        let response = scene
            .http
            .post(url)
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    for bad in [
        json!({"appid": APP, "url": "nowhere", "token": TOKEN}),
        json!({"appid": APP, "url": scene.url(), "token": TOKEN, "mode": "safe"}),
        json!({"appid": APP, "url": scene.url(), "token": TOKEN, "aeskey": "short"}),
    ] {
        assert_eq!(operate("callback", bad).await.0, 400);
    }
    let spec = json!({"appid": APP, "url": scene.url(), "token": TOKEN, "format": "xml"});
    assert_eq!(operate("callback", spec).await.0, 200);
    let popup = json!({"appid": APP, "openid": "user-1", "entries": [{"template_id": "T1", "status": "accept"}]});
    assert_eq!(operate("popup", popup).await.0, 200);
    let answered = fake.control();
    let answered = answered.wait_until(|counts| counts.callbacks_answered == 1);
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(scene.events().await.len(), 1);

    let pair = json!({"appid": APP, "openid": "user-2", "template_id": "T1"});
    let accept = |always_keep: bool| {
        json!({"appid": APP, "openid": "user-2", "always_keep": always_keep,
            "answers": [{"template_id": "T1", "answer": "accept"}]})
    };
    assert_eq!(operate("tap", accept(true)).await.0, 200);
    let (status, sent) = operate("send_elsewhere", pair.clone()).await;
    assert!(status == 200 && !sent.contains("null"), "{sent}");
    let (_, refused) = operate("send_elsewhere", pair.clone()).await;
    assert!(refused.contains("null"), "the credit is spent: {refused}");
    assert_eq!(operate("tap", accept(false)).await.0, 200);
    assert_eq!(operate("reject_later", pair.clone()).await.0, 200);
    let (_, refused) = operate("send_elsewhere", pair).await;
    assert!(refused.contains("null"), "the user refuses: {refused}");
    eventually(
        "the events but that of the always-keep arrive",
        async || {
            let mut events: Vec<_> = scene.events().await[1..]
                .iter()
                .map(|event| event["event"].as_str().unwrap().to_owned())
                .collect();
            events.sort();
            events
                == [
                    "subscribe_msg_change_event",
                    "subscribe_msg_popup_event",
                    "subscribe_msg_sent_event",
                ]
        },
    )
    .await;
}

#[tokio::test]
async fn the_simulate_command_pushes_where_its_flags_say() {
    let scene = Scene::safe().await;
    let url = scene.url().replace(APP, "{appid}");
    let simulate = |aeskey: &str| {
        let mut command = wxnotify();
        command
            .args([
                "simulate",
                "--listen",
                "127.0.0.1:0",
                "--callback-token",
                TOKEN,
            ])
            .args([
                "--callback-url",
                &url,
                "--callback-aeskey",
                aeskey,
                "--callback-format",
                "xml",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let refused = simulate("too-short").output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && words.contains("43 letters and digits"),
        "{words}"
    );

    let mut program = simulate(AESKEY).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(program.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let base = line.trim().rsplit(' ').next().unwrap().to_owned();
    let popup = json!({"appid": APP, "openid": "user-1", "entries": [{"template_id": "T1", "status": "accept"}]});
    let request = scene.http.post(format!("{base}/_control/popup"));
    let answer = request.body(popup.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    eventually("the event arrives", async || {
        scene.events().await.len() == 1
    })
    .await;
    program.kill().unwrap();
    program.wait().unwrap();
}

/// Even at the finest level, with the database refusing what it is given.
#[tokio::test]
async fn the_log_shows_neither_openid_nor_token_nor_key() {
    let queue = Queue::new().await;
    let address = free_address().await;
    let mut program = wxnotify()
        .arg("run")
        .env("DATABASE_URL", queue.url())
        .env("WXNOTIFY_LISTEN", address.to_string())
        .env("WXNOTIFY_LOG", "trace")
        .env(format!("WXNOTIFY_CALLBACK_TOKEN_{APPID}"), TOKEN)
        .env(format!("WXNOTIFY_CALLBACK_AESKEY_{APPID}"), AESKEY)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = program.stderr.take().unwrap();
    let log = tokio::task::spawn_blocking(move || {
        let mut log = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut log).unwrap();
        log
    });
    let http = reqwest::Client::new();
    eventually("the program listens", async || {
        http.get(format!("http://{address}/healthz"))
            .send()
            .await
            .is_ok()
    })
    .await;
    let key = AesKey::from_encoding_aeskey(AESKEY).unwrap();
    let timestamp = chrono::Utc::now().timestamp().to_string();
    let mut answers = Vec::new();
    let mut event = sent_event("oSecretOpenid", MSGID);
    for (list, appid) in [
        (json!({"TemplateId": "T", "MsgID": "1"}), APPID),
        (json!([]), APPID),
        (json!([]), "wxother"),
    ] {
        event["List"] = list;
        let encrypted = key.encrypt([b'r'; 16], event.to_string().as_bytes(), appid);
        let query = [
            ("timestamp", timestamp.as_str()),
            ("nonce", "secretNonce"),
            ("openid", "oSecretOpenid"),
            ("encrypt_type", "aes"),
            (
                "msg_signature",
                &sign(TOKEN, &timestamp, "secretNonce", Some(&encrypted)),
            ),
        ];
        let body = json!({"Encrypt": encrypted}).to_string();
        let request = http.post(format!("http://{address}/wechat/callback/{APPID}"));
        let response = request.query(&query).body(body).send().await.unwrap();
        answers.push(response.status().as_u16());
    }
    program.kill().unwrap();
    program.wait().unwrap();
    let log = log.await.unwrap();
    assert_eq!(answers, [200, 400, 403]);
    assert!(log.contains("was not taken"), "{log}");
    for secret in ["oSecretOpenid", "secretNonce", TOKEN, AESKEY] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

/// A free port: bound and given up at once.
pub async fn free_address() -> SocketAddr {
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn the_receiver_shows_no_secret() {
    let pool = Queue::new().await;
    let store = Store::new(pool.pool().clone());
    let key = AesKey::from_encoding_aeskey(AESKEY).unwrap();
    let receiver = Receiver::new(APP.to_owned(), TOKEN.into(), Some(key));
    let shown = format!("{:?}", Callbacks::new([receiver], store).unwrap());
    assert!(!shown.contains(TOKEN) && !shown.contains(AESKEY), "{shown}");
    assert!(Callbacks::new([], Store::new(pool.pool().clone())).is_none());
}

/// A captured signature is enough for a plaintext event: one of the far future would outlast every later word of the user.
#[tokio::test]
async fn sql_takes_no_event_from_the_future() {
    let queue = Queue::new().await;
    let event = |secs: i64| {
        json!({"Event": "subscribe_msg_popup_event", "FromUserName": "oUser", "CreateTime": chrono::Utc::now().timestamp() + secs,
               "List": {"TemplateId": "T", "SubscribeStatusString": "reject"}})
    };
    let ingest = async |payload: Value| {
        sqlx::query_scalar::<_, Option<i32>>("select wxnotify_ingest_event('wx', $1)")
            .bind(payload)
            .fetch_one(queue.pool())
            .await
    };
    for secs in [700, 86_400, 5_000_000_000] {
        let error = ingest(event(secs)).await.unwrap_err().to_string();
        assert!(error.contains("CreateTime"), "{error}");
        assert!(!error.contains("oUser"), "{error}");
    }
    // Clocks differ.
    assert_eq!(ingest(event(500)).await.unwrap(), Some(1));
}

/// One event with a hundred entries is stored a hundred times.
#[tokio::test]
async fn what_stands_beside_the_entries_of_an_event_is_not_stored_with_each_of_them() {
    let queue = Queue::new().await;
    let entries: Vec<Value> = (0..100)
        .map(|n| json!({"TemplateId": format!("T{n}"), "SubscribeStatusString": "accept", "Note": "x".repeat(300)}))
        .collect();
    let event = json!({"Event": "subscribe_msg_popup_event", "FromUserName": "oUser", "CreateTime": 1_760_000_000, "ToUserName": "gh_1",
                       "List": entries, "Blob": "y".repeat(40_000), "Deep": {"a": {"b": ["z".repeat(20_000)]}}});
    let stored: Option<i32> = sqlx::query_scalar("select wxnotify_ingest_event('wx', $1)")
        .bind(event)
        .fetch_one(queue.pool())
        .await
        .unwrap();
    assert_eq!(stored, Some(100));
    let (most, cut, kept): (i32, i64, i64) = sqlx::query_as(
        "select max(octet_length(payload::text)), count(*) filter (where payload ? 'cut'),
                count(*) filter (where payload ->> 'FromUserName' = 'oUser' and payload -> 'List' ->> 'TemplateId' = template_id)
         from wechat_events",
    )
    .fetch_one(queue.pool())
    .await
    .unwrap();
    assert!(most <= 4096, "{most} bytes");
    assert_eq!((cut, kept), (100, 100));
}
