//! Callbacks: what the fake pushes to an app's URL, in every mode and format WeChat has, and when.
//!
//! Events go through one task, so that a push outlives the call it tells of. A push is tried three times in all, as WeChat
//! does, each time with a fresh timestamp and nonce.
//!
//! Start at [`CallbackSpec`], then [`deliver`].

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::sealing::{Seal, sign};
use super::state::Shared;

/// The event of a punishment.
pub(super) const PUNISHMENT_EVENT: &str = "wxa_punish_event";
/// How often a push is tried.
const TRIES: u32 = 3;
/// Letters of WeChat's random strings.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Where and how the fake pushes an app's events. As JSON only `url` and `token` are required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackSpec {
    /// The callback URL; `{appid}` in it is replaced.
    pub url: String,
    /// The token that signs.
    pub token: String,
    /// The EncodingAESKey, 43 characters; needed by safe and compatible mode.
    #[serde(default)]
    pub aeskey: Option<String>,
    /// Absent: safe with an EncodingAESKey, plaintext without.
    #[serde(default)]
    pub mode: Option<CallbackMode>,
    /// XML or JSON.
    #[serde(default)]
    pub format: CallbackFormat,
    /// What `List` looks like in JSON.
    #[serde(default)]
    pub list: ListShape,
    /// In JSON: `MsgID` and `ErrorCode` as numbers; else as text.
    #[serde(default)]
    pub numbers: bool,
    /// When a sent event is pushed.
    #[serde(default)]
    pub timing: CallbackTiming,
    /// How much later than `timing` says, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// How often each event is pushed: 2 is a repeat although the first was answered.
    #[serde(default = "once")]
    pub times: u32,
    /// `ErrorCode` of sent events.
    #[serde(default)]
    pub error_code: i64,
    /// `ErrorStatus` of sent events.
    #[serde(default = "success")]
    pub error_status: String,
    /// How long an answer is awaited, in milliseconds; WeChat's 5 seconds unless a test is in a hurry.
    #[serde(default = "five_seconds")]
    pub answer_within_ms: u64,
}

fn once() -> u32 {
    1
}

fn success() -> String {
    "success".to_owned()
}

fn five_seconds() -> u64 {
    5_000
}

impl CallbackSpec {
    /// Pushes JSON in plaintext, once, after the reply.
    pub fn new(url: impl Into<String>, token: impl Into<String>) -> Self {
        CallbackSpec {
            url: url.into(),
            token: token.into(),
            aeskey: None,
            mode: None,
            format: CallbackFormat::default(),
            list: ListShape::default(),
            numbers: false,
            timing: CallbackTiming::default(),
            delay_ms: 0,
            times: once(),
            error_code: 0,
            error_status: success(),
            answer_within_ms: five_seconds(),
        }
    }

    /// Encrypts, in safe mode unless `mode` says compatible.
    pub fn with_aeskey(mut self, aeskey: impl Into<String>) -> Self {
        self.aeskey = Some(aeskey.into());
        self
    }

    /// What encrypts, unless nothing is to be.
    fn seal(&self) -> Result<Option<Seal>, String> {
        let mode = self.mode();
        match &self.aeskey {
            _ if mode == CallbackMode::Plaintext => Ok(None),
            None => Err("safe and compatible mode need an aeskey".to_owned()),
            Some(aeskey) => Seal::of_key(aeskey)
                .map(Some)
                .map_err(|error| format!("aeskey: {error}")),
        }
    }

    fn mode(&self) -> CallbackMode {
        self.mode.unwrap_or(if self.aeskey.is_some() {
            CallbackMode::Safe
        } else {
            CallbackMode::Plaintext
        })
    }

    /// What is wrong with it, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        reqwest::Url::parse(&self.url.replace("{appid}", "wx"))
            .map_err(|error| format!("url: {error}"))?;
        self.seal().map(drop)
    }

    /// Whether it is pushed to this machine. Whoever reaches the control API may ask for no other: it would make the fake a
    /// client inside a network that they are outside of.
    pub(super) fn is_on_loopback(&self) -> bool {
        // The appid is the caller's, too, and must not become a part of the host.
        let Ok(url) = reqwest::Url::parse(&self.url.replace("{appid}", "wx")) else {
            return false;
        };
        let host = self.url.split(['/', '?', '#']).nth(2).unwrap_or_default();
        !host.contains("{appid}")
            && match url.host() {
                Some(url::Host::Ipv4(address)) => address.is_loopback(),
                Some(url::Host::Ipv6(address)) => address.is_loopback(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => false,
            }
    }
}

/// The modes of WeChat's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum CallbackMode {
    /// Nothing is encrypted.
    Plaintext,
    /// Both, side by side.
    Compatible,
    /// Only encrypted.
    Safe,
}

/// The formats of WeChat's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum CallbackFormat {
    /// JSON.
    #[default]
    Json,
    /// XML.
    Xml,
}

/// What `List` looks like in JSON; in XML its elements repeat inside one named after the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListShape {
    /// An object when there is one entry, else an array: as WeChat does.
    #[default]
    Usual,
    /// Always an array.
    Array,
    /// As usual, inside an object named after the event.
    Wrapped,
}

/// When the sent event of a message is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackTiming {
    /// And answered (or given up) before the send is answered.
    BeforeReply,
    /// Once the send is answered, or its reply is lost.
    #[default]
    AfterReply,
    /// Not at all.
    Never,
}

/// An event before it has a format.
#[derive(Debug, Clone)]
pub(super) struct PushedEvent {
    pub event: &'static str,
    /// The element around the entries in XML.
    pub wrapper: &'static str,
    pub openid: String,
    /// Unix seconds.
    pub created: i64,
    pub entries: Vec<Vec<(&'static str, String)>>,
    /// The fields of its one entry stand at the top, in no `List`.
    pub is_flat: bool,
}

/// An event on its way to an app's URL.
#[derive(Debug)]
pub(super) struct Push {
    pub appid: String,
    pub spec: CallbackSpec,
    pub document: Document,
    /// Told when it was answered or given up.
    pub done: Option<oneshot::Sender<()>>,
}

/// The event in its format, in plain.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Json(Map<String, Value>),
    /// What stands inside `<xml>`.
    Xml(String),
}

impl PushedEvent {
    pub fn document(&self, spec: &CallbackSpec) -> Document {
        match spec.format {
            CallbackFormat::Json => Document::Json(self.json(spec)),
            CallbackFormat::Xml => Document::Xml(self.xml()),
        }
    }

    fn json(&self, spec: &CallbackSpec) -> Map<String, Value> {
        let number = |name: &str, text: &String| match text.parse::<i64>() {
            Ok(number) if spec.numbers && matches!(name, "MsgID" | "ErrorCode") => json!(number),
            _ => json!(text),
        };
        let entry = |entry: &Vec<(&'static str, String)>| -> Value {
            entry
                .iter()
                .map(|(name, text)| ((*name).to_owned(), number(name, text)))
                .collect::<Map<_, _>>()
                .into()
        };
        let list = match &self.entries[..] {
            [only] if spec.list != ListShape::Array => entry(only),
            entries => entries.iter().map(entry).collect(),
        };
        let mut document = Map::new();
        document.insert("ToUserName".to_owned(), json!(TO_USER));
        document.insert("FromUserName".to_owned(), json!(self.openid));
        document.insert("CreateTime".to_owned(), json!(self.created));
        document.insert("MsgType".to_owned(), json!("event"));
        document.insert("Event".to_owned(), json!(self.event));
        if self.is_flat {
            // As WeChat writes such events: numbers as numbers, whatever `numbers` says.
            let fields = self.entries.iter().flatten();
            document.extend(fields.map(|(name, text)| {
                let number = text.parse::<i64>().ok().filter(|_| text.len() < 10);
                (
                    (*name).to_owned(),
                    number.map_or(json!(text), |number| json!(number)),
                )
            }));
            return document;
        }
        match spec.list {
            ListShape::Wrapped => document.insert(self.wrapper.to_owned(), json!({"List": list})),
            _ => document.insert("List".to_owned(), list),
        };
        document
    }

    fn xml(&self) -> String {
        let cdata = |text: &str| format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"));
        let mut xml = format!(
            "<ToUserName>{}</ToUserName><FromUserName>{}</FromUserName><CreateTime>{}</CreateTime>\
             <MsgType>{}</MsgType><Event>{}</Event>",
            cdata(TO_USER),
            cdata(&self.openid),
            self.created,
            cdata("event"),
            cdata(self.event),
        );
        let (open, close) = if self.is_flat {
            ("", "")
        } else {
            xml.push_str(&format!("<{}>", self.wrapper));
            ("<List>", "</List>")
        };
        for entry in &self.entries {
            xml.push_str(open);
            for (name, text) in entry {
                // Numbers stand plain, everything else as CDATA: both are read alike.
                let text = match text.parse::<i64>() {
                    Ok(number) => number.to_string(),
                    Err(_) => cdata(text),
                };
                xml.push_str(&format!("<{name}>{text}</{name}>"));
            }
            xml.push_str(close);
        }
        if !self.is_flat {
            xml.push_str(&format!("</{}>", self.wrapper));
        }
        xml
    }
}

/// The mini-program's original id.
const TO_USER: &str = "gh_0123456789ab";

/// One request: the query and the body.
fn render(push: &Push, seal: Option<&Seal>) -> (Vec<(&'static str, String)>, String) {
    let spec = &push.spec;
    let timestamp = Utc::now().timestamp().to_string();
    let nonce = rand::rng().random_range(100_000..u32::MAX).to_string();
    let mut query = vec![
        ("signature", sign([&spec.token, &timestamp, &nonce])),
        ("timestamp", timestamp.clone()),
        ("nonce", nonce.clone()),
    ];
    let plain = match &push.document {
        Document::Json(members) => Value::Object(members.clone()).to_string(),
        Document::Xml(inside) => format!("<xml>{inside}</xml>"),
    };
    let Some(seal) = seal else {
        return (query, plain);
    };
    let random = std::array::from_fn(|_| LETTERS[rand::rng().random_range(0..LETTERS.len())]);
    let encrypted = seal.seal(random, plain.as_bytes(), &push.appid);
    let signature = sign([&spec.token, &timestamp, &nonce, &encrypted]);
    query.push(("encrypt_type", "aes".to_owned()));
    query.push(("msg_signature", signature));
    let compatible = spec.mode() == CallbackMode::Compatible;
    let body = match &push.document {
        Document::Json(members) => {
            let mut envelope = if compatible {
                members.clone()
            } else {
                Map::from_iter([("ToUserName".to_owned(), json!(TO_USER))])
            };
            envelope.insert("Encrypt".to_owned(), json!(encrypted));
            Value::Object(envelope).to_string()
        }
        Document::Xml(inside) => {
            let beside = if compatible {
                inside.clone()
            } else {
                format!("<ToUserName><![CDATA[{TO_USER}]]></ToUserName>")
            };
            format!("<xml>{beside}<Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>")
        }
    };
    (query, body)
}

/// Delivers pushes until told to stop.
pub(super) async fn deliver(
    shared: Arc<Shared>,
    mut pushes: mpsc::UnboundedReceiver<Push>,
    stop: CancellationToken,
) {
    let http = reqwest::Client::builder()
        .no_proxy()
        // WeChat follows none, and one could lead elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without any setting can be built");
    let mut deliveries = JoinSet::new();
    loop {
        let push = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = deliveries.join_next() => continue,
            push = pushes.recv() => push,
        };
        let Some(push) = push else { break };
        deliveries.spawn(deliver_one(shared.clone(), http.clone(), push));
    }
    deliveries.shutdown().await;
}

async fn deliver_one(shared: Arc<Shared>, http: reqwest::Client, mut push: Push) {
    if push.spec.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(push.spec.delay_ms)).await;
    }
    for _ in 0..push.spec.times {
        let answered = push_until_answered(&shared, &http, &push).await;
        let mut state = shared.lock();
        if answered {
            state.counts.callbacks_answered += 1;
        } else {
            state.counts.callbacks_given_up += 1;
        }
        drop(state);
        shared.moved.notify_waiters();
    }
    if let Some(done) = push.done.take() {
        // The send has been left by its caller, most likely.
        let _ = done.send(());
    }
}

async fn push_until_answered(shared: &Shared, http: &reqwest::Client, push: &Push) -> bool {
    let Ok(seal) = push.spec.seal() else {
        return false;
    };
    for _ in 0..TRIES {
        let (query, body) = render(push, seal.as_ref());
        shared.lock().counts.callback_tries += 1;
        shared.moved.notify_waiters();
        let request = http
            .post(push.spec.url.replace("{appid}", &push.appid))
            .query(&query)
            .body(body)
            .timeout(Duration::from_millis(push.spec.answer_within_ms));
        let Ok(response) = request.send().await else {
            continue;
        };
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        if status.is_success() && (text.is_empty() || text == "success") {
            return true;
        }
    }
    false
}
