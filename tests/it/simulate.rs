//! The fake WeChat over real HTTP: every refusal before every success.

mod control;
mod credits;
mod data;
mod faults;
mod kinds;
mod ledger;
mod program;
mod quotas;
mod sends;
mod templates;
mod tokens;

use std::time::Duration;

use serde_json::{Value, json};
use wxnotify::simulate::{
    AppSpec, Control, Counts, FakeWechat, SEND_PATH, STABLE_TOKEN_PATH, SimulateOptions,
    TOKEN_PATH, TemplateSpec,
};

const APP: &str = "wx1111222233334444";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const USER: &str = "oUser0000000000000000000001";
const OTHER_USER: &str = "oUser0000000000000000000002";
const TEMPLATE: &str = "TmplAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1";
/// How long a test waits for what must come; reached only when it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A fake with a caller.
struct World {
    fake: FakeWechat,
    control: Control,
    http: reqwest::Client,
}

impl World {
    async fn with(options: SimulateOptions) -> Self {
        let fake = FakeWechat::start(options).await.unwrap();
        let control = fake.control();
        World {
            fake,
            control,
            http: reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .unwrap(),
        }
    }

    async fn open() -> Self {
        World::with(SimulateOptions::default()).await
    }

    /// Knows one app, one template (`thing1`, `phrase2`) and one user without credits.
    async fn strict() -> Self {
        let world = World::with(SimulateOptions::strict([AppSpec::new(APP, SECRET)])).await;
        let template = TemplateSpec::new(TEMPLATE, ["thing1", "phrase2"]);
        world.control.add_template(APP, template);
        world.control.add_user(APP, USER);
        world
    }

    fn url(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.fake.base_url())
    }

    async fn get(&self, path_and_query: &str) -> Value {
        let response = self.http.get(self.url(path_and_query)).send().await;
        read(response.unwrap()).await
    }

    async fn post(&self, path_and_query: &str, body: impl Into<reqwest::Body>) -> Value {
        let request = self.http.post(self.url(path_and_query)).body(body);
        read(request.send().await.unwrap()).await
    }

    async fn stable(&self, appid: &str, secret: &str, force_refresh: bool) -> Value {
        let body = json!({
            "grant_type": "client_credential",
            "appid": appid,
            "secret": secret,
            "force_refresh": force_refresh,
        });
        self.post(STABLE_TOKEN_PATH, body.to_string()).await
    }

    async fn plain(&self) -> Value {
        let query = format!("grant_type=client_credential&appid={APP}&secret={SECRET}");
        self.get(&format!("{TOKEN_PATH}?{query}")).await
    }

    async fn token(&self) -> String {
        token_of(&self.stable(APP, SECRET, false).await)
    }

    async fn send_with(&self, token: &str, message: &Value) -> Value {
        let path = format!("{SEND_PATH}?access_token={token}");
        self.post(&path, message.to_string()).await
    }

    /// Sends with the current token.
    async fn send(&self, message: &Value) -> Value {
        self.send_with(&self.token().await, message).await
    }

    /// Sends and gives what came back on the wire.
    async fn raw_send(&self) -> reqwest::Result<(u16, String)> {
        let path = format!("{SEND_PATH}?access_token={}", self.token().await);
        let request = self.http.post(self.url(&path));
        let response = request.body(message().to_string()).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// Starts a send that may take its time.
    async fn start_send(&self, message: Value) -> tokio::task::JoinHandle<Value> {
        let path = format!("{SEND_PATH}?access_token={}", self.token().await);
        let request = self.http.post(self.url(&path)).body(message.to_string());
        tokio::spawn(async move { read(request.send().await.unwrap()).await })
    }

    /// Puts the fake's clock at 00:00:10 in Beijing, so that no day ends amid a test.
    fn begin_the_day(&self) {
        let into_the_day = (chrono::Utc::now().timestamp() + 8 * 3600).rem_euclid(86_400);
        let left = u64::try_from(86_400 - into_the_day).unwrap();
        self.control.advance_clock(Duration::from_secs(left + 10));
    }

    /// Sends, gives up once `settled` is true of the fake's totals, and says that no answer had come.
    async fn send_and_leave(&self, settled: impl Fn(&Counts) -> bool) {
        let sending = self.start_send(message()).await;
        self.control.wait_until(settled).await;
        assert!(!sending.is_finished());
        sending.abort();
    }

    fn remaining(&self) -> Option<u64> {
        let ledger = self.control.ledger();
        ledger.pair(APP, USER, TEMPLATE).unwrap().remaining
    }

    fn accepted(&self) -> u64 {
        self.control.counts().sends_accepted
    }
}

/// Every business answer is HTTP 200 with JSON.
async fn read(response: reqwest::Response) -> Value {
    assert_eq!(response.status(), 200);
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

fn message() -> Value {
    json!({
        "touser": USER,
        "template_id": TEMPLATE,
        "page": "pages/order/detail?id=42",
        "miniprogram_state": "formal",
        "lang": "zh_CN",
        "data": {"thing1": {"value": "手冲咖啡两杯"}, "phrase2": {"value": "待取餐"}},
    })
}

fn message_to(openid: &str) -> Value {
    let mut message = message();
    message["touser"] = json!(openid);
    message
}

fn token_of(answer: &Value) -> String {
    let token = answer["access_token"].as_str();
    token
        .unwrap_or_else(|| panic!("no token in {answer}"))
        .to_owned()
}

#[track_caller]
fn assert_refused(answer: &Value, errcode: i64) {
    assert_eq!(answer["errcode"], errcode, "{answer}");
    let errmsg = answer["errmsg"].as_str().unwrap();
    let rid = errmsg.rsplit_once("rid: ").expect("a refusal has a rid").1;
    let groups: Vec<&str> = rid.split('-').collect();
    assert!(
        groups.len() == 3 && groups.iter().all(|group| group.len() == 8),
        "{rid}"
    );
}

#[track_caller]
fn assert_sent(answer: &Value) -> i64 {
    assert_eq!(answer["errcode"], 0, "{answer}");
    let msgid = answer["msgid"].as_i64().unwrap();
    assert!(msgid > 1 << 53);
    msgid
}

// Tokens
