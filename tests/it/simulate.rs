//! The fake WeChat over real HTTP: every refusal before every success.

mod kinds;

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use wxnotify::simulate::{
    Action, AppSpec, Capacity, Control, Counts, FakeWechat, LedgerDetail, Rule, SEND_PATH,
    STABLE_TOKEN_PATH, SimulateOptions, TOKEN_PATH, TemplateSpec,
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

#[tokio::test]
async fn a_token_request_that_lacks_something_says_what() {
    let world = World::strict().await;
    let plain = |query: &str| world.url(&format!("{TOKEN_PATH}?{query}"));
    let credentials = format!("appid={APP}&secret={SECRET}");
    let queries = [
        (
            format!("grant_type=client_credentials&{credentials}"),
            40002,
        ),
        (
            format!("grant_type=client_credential&secret={SECRET}"),
            41002,
        ),
        (format!("grant_type=client_credential&appid={APP}"), 41004),
        (
            format!("grant_type=client_credential&appid=wx9&secret={SECRET}"),
            40013,
        ),
        (
            format!("grant_type=client_credential&appid={APP}&secret=wrong"),
            40125,
        ),
    ];
    for (query, errcode) in queries {
        let answer = world.http.get(plain(&query)).send().await.unwrap();
        assert_refused(&read(answer).await, errcode);
    }
    let bodies = [
        (String::new(), 44002),
        ("{".to_owned(), 47001),
        (json!({"appid": APP, "secret": SECRET}).to_string(), 40002),
    ];
    for (body, errcode) in bodies {
        assert_refused(&world.post(STABLE_TOKEN_PATH, body).await, errcode);
    }
    assert_refused(&world.stable(APP, "wrong", false).await, 40125);
    assert_refused(&world.get(STABLE_TOKEN_PATH).await, 43002);
    assert_refused(&world.post(TOKEN_PATH, "").await, 43001);
    assert!(world.control.ledger().tokens.is_empty());
}

#[tokio::test]
async fn a_guarded_app_gets_no_token() {
    let world = World::strict().await;
    let elsewhere = Some(vec!["203.0.113.7".parse().unwrap()]);
    world.control.set_ip_whitelist(APP, elsewhere);
    let answer = world.stable(APP, SECRET, false).await;
    assert_refused(&answer, 40164);
    let errmsg = answer["errmsg"].as_str().unwrap();
    assert!(errmsg.contains("invalid ip 127.0.0.1"), "{errmsg}");
    let here = Some(vec!["127.0.0.1".parse().unwrap()]);
    world.control.set_ip_whitelist(APP, here);

    world.control.require_admin_confirmation(APP, true);
    assert_refused(&world.stable(APP, SECRET, false).await, 89503);
    world.control.require_admin_confirmation(APP, false);

    world.control.freeze_secret(APP, true);
    assert_refused(&world.plain().await, 40243);
    world.control.freeze_secret(APP, false);

    world.token().await;
}

#[tokio::test]
async fn a_send_tells_a_missing_a_garbled_a_foreign_and_an_expired_token_apart() {
    let world = World::open().await;
    let token = world.token().await;
    let without = world.post(SEND_PATH, message().to_string()).await;
    assert_refused(&without, 41001);
    assert_refused(&world.send_with(&token[..80], &message()).await, 40014);
    assert_refused(&world.send_with("no/such token", &message()).await, 40014);
    let foreign: String = token.chars().rev().collect();
    let foreign = format!("91_{}", &foreign[..foreign.len() - 3]);
    assert_refused(&world.send_with(&foreign, &message()).await, 40001);
    world.control.advance_clock(Duration::from_secs(7199));
    assert_sent(&world.send_with(&token, &message()).await);
    world.control.advance_clock(Duration::from_secs(1));
    assert_refused(&world.send_with(&token, &message()).await, 42001);
}

#[tokio::test]
async fn a_plain_token_call_kills_the_plain_token_before_after_five_minutes() {
    let world = World::open().await;
    let stable = world.token().await;
    let mine = token_of(&world.plain().await);
    let theirs = token_of(&world.plain().await);
    world.control.advance_clock(Duration::from_secs(299));
    assert_sent(&world.send_with(&mine, &message()).await);
    world.control.advance_clock(Duration::from_secs(2));
    assert_refused(&world.send_with(&mine, &message()).await, 40001);
    assert_sent(&world.send_with(&theirs, &message()).await);
    assert_sent(&world.send_with(&stable, &message()).await);
}

#[tokio::test]
async fn a_stable_token_counts_down_and_is_renewed_in_its_last_five_minutes() {
    let world = World::open().await;
    let first = world.stable(APP, SECRET, false).await;
    world.control.advance_clock(Duration::from_secs(6000));
    let later = world.stable(APP, SECRET, false).await;
    assert_eq!(later["access_token"], first["access_token"]);
    let left = later["expires_in"].as_i64().unwrap();
    assert!((1190..=1200).contains(&left), "{left}");
    world.control.advance_clock(Duration::from_secs(901));
    let fresh = world.stable(APP, SECRET, false).await;
    assert_ne!(fresh["access_token"], first["access_token"]);
    assert_sent(&world.send_with(&token_of(&first), &message()).await);
}

#[tokio::test]
async fn the_forced_refreshes_run_out_and_one_too_soon_changes_nothing() {
    let world = World::open().await;
    world.begin_the_day();
    let first = world.stable(APP, SECRET, true).await;
    let too_soon = world.stable(APP, SECRET, true).await;
    assert_eq!(too_soon["access_token"], first["access_token"]);
    for _ in 1..20 {
        world.control.advance_clock(Duration::from_secs(30));
        token_of(&world.stable(APP, SECRET, true).await);
    }
    world.control.advance_clock(Duration::from_secs(30));
    assert_refused(&world.stable(APP, SECRET, true).await, 45009);
    world.control.advance_clock(Duration::from_secs(86_400));
    token_of(&world.stable(APP, SECRET, true).await);
}

#[tokio::test]
async fn a_stolen_token_dies_at_once_and_an_expired_one_is_told_from_it() {
    let world = World::open().await;
    let stolen = world.token().await;
    world.control.steal_token(APP);
    assert_refused(&world.send_with(&stolen, &message()).await, 40001);
    let current = world.token().await;
    assert_sent(&world.send_with(&current, &message()).await);
    world.control.expire_token(APP);
    assert_refused(&world.send_with(&current, &message()).await, 42001);
    assert_refused(&world.send_with(&stolen, &message()).await, 40001);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn an_open_fake_checks_the_secret_of_an_added_app_only() {
    let world = World::open().await;
    token_of(&world.stable("wxAnybody", "anything", false).await);
    world.control.add_app(AppSpec::new(APP, SECRET));
    assert_refused(&world.stable(APP, "anything", false).await, 40125);
    token_of(&world.stable(APP, SECRET, false).await);
}

// Sends

/// Everything is wrong at first; each repair uncovers the next refusal.
#[tokio::test]
async fn a_send_is_checked_in_wechats_order() {
    let world = World::strict().await;
    world.control.set_sensitive_words(["发财"]);
    let token = world.token().await;
    let mut bad = json!({
        "touser": "oNobody", "template_id": "TmplOther", "page": "/pages/index",
        "data": {"thing1": {"value": "恭喜发财"}},
    });
    assert_refused(&world.send_with(&token[..9], &bad).await, 40014);
    assert_refused(&world.send_with(&token, &bad).await, 40003);
    bad["touser"] = json!(USER);
    assert_refused(&world.send_with(&token, &bad).await, 40037);
    bad["template_id"] = json!(TEMPLATE);
    assert_refused(&world.send_with(&token, &bad).await, 43101);
    world.control.grant(APP, USER, TEMPLATE, 1);
    assert_refused(&world.send_with(&token, &bad).await, 47003);
    bad["data"]["phrase2"] = json!({"value": "待取餐"});
    assert_refused(&world.send_with(&token, &bad).await, 41030);
    bad["page"] = json!("pages/index");
    assert_refused(&world.send_with(&token, &bad).await, 45168);
    assert_eq!(world.remaining(), Some(1), "no refusal takes a credit");
    bad["data"]["thing1"] = json!({"value": "恭喜"});
    assert_sent(&world.send_with(&token, &bad).await);
    assert_eq!(world.remaining(), Some(0));
}

#[tokio::test]
async fn a_user_without_a_credit_gets_43101() {
    let world = World::strict().await;
    assert_refused(&world.send(&message()).await, 43101);
    world.control.grant(APP, USER, TEMPLATE, 2);
    assert_sent(&world.send(&message()).await);
    assert_sent(&world.send(&message()).await);
    assert_refused(&world.send(&message()).await, 43101);
    let ledger = world.control.ledger();
    let pair = ledger.pair(APP, USER, TEMPLATE).unwrap();
    assert_eq!((pair.granted, pair.accepted, pair.credits_taken), (2, 2, 2));
    assert_eq!((pair.arrived, pair.remaining), (4, Some(0)));
}

#[tokio::test]
async fn a_user_who_refuses_gets_43101_and_keeps_the_credit() {
    let world = World::strict().await;
    world.control.grant(APP, USER, TEMPLATE, 1);
    world.control.refuse(APP, USER, TEMPLATE, true);
    assert_refused(&world.send(&message()).await, 43101);
    world.control.refuse(APP, USER, TEMPLATE, false);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn credits_belong_to_one_user_and_one_template() {
    let world = World::strict().await;
    world.control.add_user(APP, OTHER_USER);
    let other_template = TemplateSpec::new("TmplB", ["thing1"]);
    world.control.add_template(APP, other_template);
    world.control.grant(APP, USER, TEMPLATE, 1);
    let to_other_user = message_to(OTHER_USER);
    assert_refused(&world.send(&to_other_user).await, 43101);
    let mut of_other_template = message();
    of_other_template["template_id"] = json!("TmplB");
    assert_refused(&world.send(&of_other_template).await, 43101);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn an_open_fake_counts_a_pair_from_its_first_grant() {
    let world = World::open().await;
    assert_sent(&world.send(&message()).await);
    assert_sent(&world.send(&message()).await);
    world.control.grant(APP, USER, TEMPLATE, 1);
    assert_sent(&world.send(&message()).await);
    assert_refused(&world.send(&message()).await, 43101);
    assert_sent(&world.send(&message_to(OTHER_USER)).await);
}

#[tokio::test]
async fn one_credit_of_a_long_term_template_serves_any_number_of_messages() {
    let world = World::strict().await;
    let template = TemplateSpec::new(TEMPLATE, ["thing1"]).long_term();
    world.control.add_template(APP, template);
    assert_refused(&world.send(&message()).await, 43101);
    world.control.grant(APP, USER, TEMPLATE, 1);
    for _ in 0..3 {
        assert_sent(&world.send(&message()).await);
    }
    world.control.refuse(APP, USER, TEMPLATE, true);
    assert_refused(&world.send(&message()).await, 43101);
}

#[tokio::test]
async fn a_second_send_to_a_user_whose_first_is_in_flight_gets_43108() {
    let world = World::open().await;
    world.control.hold();
    let first = world.start_send(message()).await;
    world.control.wait_for_calls(1).await;
    assert_refused(&world.send(&message()).await, 43108);
    let other_user = world.start_send(message_to(OTHER_USER)).await;
    world.control.wait_for_calls(3).await;
    world.control.release();
    assert_sent(&first.await.unwrap());
    assert_sent(&other_user.await.unwrap());
    assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    let concurrent: Vec<bool> = ledger.sends().map(|call| call.concurrent).collect();
    assert_eq!(concurrent, [false, true, false, false]);
}

#[tokio::test]
async fn of_more_sends_than_are_served_at_once_some_wait_and_then_some_are_refused() {
    let world = World::open().await;
    world.control.hold();
    world.control.set_capacity(Some(Capacity {
        at_once: 1,
        refuses_from: Some(2),
        refusal: Action::errcode(-1),
    }));
    let served = world.start_send(message()).await;
    world.control.wait_for_calls(1).await;
    let waiting = world.start_send(message_to(OTHER_USER)).await;
    world.control.wait_for_calls(2).await;
    let refused = world.start_send(message_to("oThirdUser")).await;
    world.control.wait_for_calls(3).await;
    world.control.release();
    assert_sent(&served.await.unwrap());
    assert_sent(&waiting.await.unwrap());
    assert_refused(&refused.await.unwrap(), -1);
    assert_sent(&world.send(&message_to("oThirdUser")).await);

    world.control.set_capacity(None);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn the_first_bad_key_in_the_templates_order_is_named() {
    let world = World::strict().await;
    let template = TemplateSpec::new(TEMPLATE, ["phrase2", "thing1", "enum3", "number4"])
        .with_enum("enum3", ["客厅", "卧室"]);
    world.control.add_template(APP, template);
    world.control.grant(APP, USER, TEMPLATE, 1);
    let good = json!({
        "thing1": {"value": "咖啡", "color": "#173177"}, "phrase2": {"value": "待取餐"},
        "enum3": {"value": "客厅"}, "number4": {"value": "4"}, "thing9": {"value": "not in the template"},
    });
    let cases = [
        (
            "phrase2",
            json!({"value": "OK"}),
            "data.phrase2.value invalid",
        ),
        (
            "phrase2",
            json!({"value": " "}),
            "data.phrase2.value is empty",
        ),
        (
            "thing1",
            json!({"value": null}),
            "data.thing1.value is empty",
        ),
        ("thing1", json!({}), "data.thing1.value is empty"),
        ("thing1", json!("咖啡"), "data.thing1.value invalid"),
        (
            "enum3",
            json!({"value": "厨房"}),
            "data.enum3.value invalid",
        ),
        ("number4", json!({"value": 4}), "data.number4.value invalid"),
    ];
    for (key, value, complaint) in cases {
        let mut bad = message();
        bad["data"] = good.clone();
        bad["data"][key] = value;
        let answer = world.send(&bad).await;
        assert_refused(&answer, 47003);
        let errmsg = answer["errmsg"].as_str().unwrap();
        let expected = format!("argument invalid! {complaint} rid:");
        assert!(errmsg.starts_with(&expected), "{errmsg} for {key}");
    }
    let mut two_missing = message();
    two_missing["data"] = json!({"thing1": {"value": ""}});
    let answer = world.send(&two_missing).await;
    assert!(
        answer["errmsg"]
            .as_str()
            .unwrap()
            .contains("data.phrase2.value is empty")
    );
    for data in [json!(null), json!("{\"thing1\":{}}"), json!([])] {
        let mut bad = message();
        bad["data"] = data;
        assert_refused(&world.send(&bad).await, 47003);
    }
    let mut right = message();
    right["data"] = good;
    assert_sent(&world.send(&right).await);
}

#[tokio::test]
async fn an_unknown_template_is_checked_by_the_types_its_keys_name() {
    let world = World::open().await;
    let mut bad = message();
    bad["data"] = json!({"thing1": {"value": "咖啡"}, "amount2": {"value": "much"}});
    let answer = world.send(&bad).await;
    assert_refused(&answer, 47003);
    assert!(
        answer["errmsg"]
            .as_str()
            .unwrap()
            .contains("data.amount2.value invalid")
    );
    bad["data"] = json!({});
    assert_refused(&world.send(&bad).await, 47003);
    bad["data"] = json!({"thing1": {"value": "咖啡"}});
    bad["touser"] = json!("not an openid");
    assert_refused(&world.send(&bad).await, 40003);
    bad["touser"] = json!(USER);
    bad["template_id"] = json!("");
    assert_refused(&world.send(&bad).await, 40037);
}

#[tokio::test]
async fn a_banned_template_gets_43107_until_the_ban_is_lifted() {
    let world = World::open().await;
    world.control.ban_template(APP, TEMPLATE, true);
    assert_refused(&world.send(&message()).await, 43107);
    world.control.ban_template(APP, TEMPLATE, false);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused() {
    let world = World::open().await;
    let path = format!("{SEND_PATH}?access_token={}", world.token().await);
    let mut not_utf8 = message().to_string().into_bytes();
    let first_chinese = not_utf8.iter().position(|byte| *byte >= 0x80).unwrap();
    not_utf8[first_chinese] = 0xff;
    assert_refused(&world.post(&path, not_utf8).await, 47001);
    assert_refused(&world.post(&path, "").await, 44002);
    assert_refused(&world.post(&path, "touser=o1").await, 47001);
    assert_refused(&world.post(&path, r#"{"touser":1}"#).await, 47001);
    assert_refused(&world.get(&path).await, 43002);
    assert_refused(&world.get("/cgi-bin/no/such").await, 40066);
    assert_eq!(world.accepted(), 0);
}

#[tokio::test]
async fn an_escaped_body_is_read_as_json() {
    let world = World::open().await;
    let path = format!("{SEND_PATH}?access_token={}", world.token().await);
    let escaped = format!(
        r#"{{"touser":"{USER}","template_id":"{TEMPLATE}","data":{{"phrase\u0031":{{"value":"\u5f85\u53d6\u9910"}}}}}}"#
    );
    assert_sent(&world.post(&path, escaped).await);
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert_eq!(call.value("phrase1").as_deref(), Some("待取餐"));
}

#[tokio::test]
async fn message_ids_rise_and_the_rid_carries_the_time() {
    let world = World::open().await;
    let mut last = 0;
    for _ in 0..20 {
        let msgid = assert_sent(&world.send(&message()).await);
        assert!(msgid > last);
        last = msgid;
    }
    world.control.refuse(APP, USER, TEMPLATE, true);
    let answer = world.send(&message()).await;
    let errmsg = answer["errmsg"].as_str().unwrap();
    let at = errmsg
        .split("rid: ")
        .nth(1)
        .unwrap()
        .split('-')
        .next()
        .unwrap();
    let minted = i64::from_str_radix(at, 16).unwrap();
    assert!((chrono::Utc::now().timestamp() - minted).abs() < 60);
}

// Quotas

#[tokio::test]
async fn the_daily_quota_stops_the_app_until_midnight_in_beijing() {
    let world = World::open().await;
    world.begin_the_day();
    world.control.set_quota(APP, Some(2), None);
    world.control.refuse(APP, USER, TEMPLATE, true);
    assert_refused(&world.send(&message()).await, 43101);
    assert_sent(&world.send(&message_to(OTHER_USER)).await);
    assert_refused(&world.send(&message_to(OTHER_USER)).await, 45009);
    let another_app = world.stable("wxAnother", "x", false).await;
    assert_sent(&world.send_with(&token_of(&another_app), &message()).await);
    world.control.advance_clock(Duration::from_secs(86_400));
    assert_sent(&world.send(&message_to(OTHER_USER)).await);
}

#[tokio::test]
async fn the_minute_quota_returns_with_the_next_minute() {
    let world = World::open().await;
    world.control.set_quota(APP, None, Some(0));
    assert_refused(&world.send(&message()).await, 45011);
    world.control.set_quota(APP, None, Some(1));
    world.control.advance_clock(Duration::from_secs(60));
    assert_sent(&world.send(&message()).await);
    world.control.advance_clock(Duration::from_secs(60));
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn quota_get_and_clear_quota_share_the_counters_of_the_checks() {
    let world = World::open().await;
    world.begin_the_day();
    world.control.set_quota(APP, Some(3), Some(100));
    let token = world.token().await;
    for _ in 0..3 {
        assert_sent(&world.send_with(&token, &message()).await);
    }
    let quota_get = format!("/cgi-bin/openapi/quota/get?access_token={token}");
    let unknown = json!({"cgi_path": "/cgi-bin/nothing"}).to_string();
    assert_refused(&world.post(&quota_get, unknown).await, 76021);
    let send_path = json!({"cgi_path": SEND_PATH}).to_string();
    let answer = world.post(&quota_get, send_path.clone()).await;
    assert_eq!(
        answer["quota"],
        json!({"daily_limit": 3, "used": 3, "remain": 0})
    );
    assert_eq!(
        answer["rate_limit"],
        json!({"call_count": 100, "refresh_second": 60})
    );

    let clear = format!("/cgi-bin/clear_quota?access_token={token}");
    let not_mine = json!({"appid": "wxAnother"}).to_string();
    assert_refused(&world.post(&clear, not_mine).await, 40013);
    for _ in 0..10 {
        let cleared = world.post(&clear, json!({"appid": APP}).to_string()).await;
        assert_eq!(cleared["errcode"], 0);
    }
    let eleventh = world.post(&clear, json!({"appid": APP}).to_string()).await;
    assert_refused(&eleventh, 48006);
    let answer = world.post(&quota_get, send_path).await;
    assert_eq!(answer["quota"]["used"], 0);
    assert_sent(&world.send_with(&token, &message()).await);
}

#[tokio::test]
async fn a_rid_leads_back_to_the_failed_call_for_seven_days() {
    let world = World::open().await;
    world.control.refuse(APP, USER, TEMPLATE, true);
    let errmsg = world.send(&message()).await["errmsg"].to_string();
    let rid = errmsg
        .split("rid: ")
        .nth(1)
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let look_up = async |appid: &str, rid: &str| {
        let token = token_of(&world.stable(appid, SECRET, false).await);
        let path = format!("/cgi-bin/openapi/rid/get?access_token={token}");
        world.post(&path, json!({ "rid": rid }).to_string()).await
    };
    assert_refused(&look_up(APP, "00000000-00000000-00000000").await, 76001);
    assert_refused(&look_up(APP, "not-a-rid").await, 76002);
    assert_refused(&look_up("wxAnother", &rid).await, 76003);
    let found = look_up(APP, &rid).await;
    let request_body = found["request"]["request_body"].as_str().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(request_body).unwrap(),
        message()
    );
    assert!(
        found["request"]["response_body"]
            .as_str()
            .unwrap()
            .contains("43101")
    );
    assert_eq!(found["request"]["client_ip"], "127.0.0.1");
    world
        .control
        .advance_clock(Duration::from_secs(7 * 86_400 + 1));
    assert_refused(&look_up(APP, &rid).await, 76004);
}

#[tokio::test]
async fn templates_are_added_listed_and_deleted() {
    let world = World::open().await;
    let token = world.token().await;
    let call = |name: &str| format!("/wxaapi/newtmpl/{name}?access_token={token}");
    let add = async |body: Value| world.post(&call("addtemplate"), body.to_string()).await;
    for (body, errcode) in [
        (json!({"tid": "99999", "kidList": [1, 2]}), 200_014),
        (json!({"tid": "401", "kidList": [1]}), 200_020),
        (json!({"tid": "401", "kidList": [1, 99]}), 200_020),
        (json!({"tid": "401", "kidList": [0, 1]}), 200_020),
        (
            json!({"tid": "401", "kidList": [1, 2], "sceneDesc": "一二三四五六七八九十一二三四五六"}),
            200_021,
        ),
    ] {
        assert_refused(&add(body).await, errcode);
    }
    let added = add(json!({"tid": "401", "kidList": [3, 1, 2], "sceneDesc": "订单"})).await;
    let id = added["priTmplId"].as_str().unwrap().to_owned();
    assert_refused(
        &add(json!({"tid": 401, "kidList": [3, 1, 2]})).await,
        200_022,
    );

    let listed = world.get(&call("gettemplate")).await;
    assert_eq!(listed["data"][0]["priTmplId"], id);
    assert_eq!(listed["data"][0]["title"], "取餐提醒");
    assert_eq!(listed["data"][0]["type"], 2);
    assert_eq!(
        listed["data"][0]["content"],
        "金额:{{amount3.DATA}}\n订单号:{{character_string1.DATA}}\n商品:{{thing2.DATA}}\n"
    );
    assert_refused(&world.post(&call("gettemplate"), "{}").await, 43001);

    let send = json!({"touser": USER, "template_id": id, "data": {"amount3": {"value": "36元"}, "character_string1": {"value": "SO-1"}, "thing2": {"value": "咖啡"}}});
    assert_eq!(world.send(&send).await["errcode"], 0);
    let delete = json!({ "priTmplId": id }).to_string();
    assert_eq!(
        world.post(&call("deltemplate"), delete.clone()).await["errcode"],
        0
    );
    assert_refused(&world.post(&call("deltemplate"), delete).await, 20_002);
    assert_refused(&world.send(&send).await, 40037);
    assert_eq!(world.get(&call("gettemplate")).await["data"], json!([]));
}

#[tokio::test]
async fn the_list_of_templates_has_a_quota_of_its_own() {
    let world = World::open().await;
    world.begin_the_day();
    let path = "/wxaapi/newtmpl/gettemplate";
    assert!(world.control.set_quota_of(APP, path, Some(1), None));
    assert!(
        !world
            .control
            .set_quota_of(APP, "/no/such/path", Some(1), None)
    );
    let token = world.token().await;
    let list = format!("{path}?access_token={token}");
    assert_eq!(world.get(&list).await["errcode"], 0);
    assert_refused(&world.get(&list).await, 45009);
    let quota_get = format!("/cgi-bin/openapi/quota/get?access_token={token}");
    let answer = world
        .post(&quota_get, json!({ "cgi_path": path }).to_string())
        .await;
    assert_eq!(
        answer["quota"],
        json!({"daily_limit": 1, "used": 1, "remain": 0})
    );
    assert_eq!(world.send(&message()).await["errcode"], 0);
}

// Faults

/// A fake whose user has one credit, under one rule.
async fn scripted(action: Action) -> World {
    let world = World::strict().await;
    world.control.grant(APP, USER, TEMPLATE, 1);
    world.control.script(Rule::send(action).once());
    world
}

#[tokio::test]
async fn a_hang_before_the_credit_leaves_it_for_the_next_attempt() {
    let world = scripted(Action::hang_before_credit()).await;
    world
        .send_and_leave(|counts| counts.sends_answered == 1)
        .await;
    assert_eq!((world.accepted(), world.remaining()), (0, Some(1)));
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_hang_after_the_credit_took_it_though_nobody_was_told() {
    let world = scripted(Action::hang_after_credit()).await;
    world
        .send_and_leave(|counts| counts.sends_answered == 1)
        .await;
    assert_refused(&world.send(&message()).await, 43101);
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert!(call.accepted && call.credit_taken && !call.reply_delivered);
    assert!(call.msgid.is_some() && call.answered_at.is_none());
    assert_eq!(call.fault.as_deref(), Some("hang"));
    assert_eq!(ledger.counts.replies_lost, 1);
}

#[tokio::test]
async fn a_reset_is_no_time_out_and_no_answer_whether_or_not_the_credit_was_taken() {
    for (action, remaining) in [
        (Action::reset_before_credit(), Some(1)),
        (Action::reset_after_credit(), Some(0)),
    ] {
        let world = scripted(action).await;
        let error = world.raw_send().await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
        assert_eq!(world.remaining(), remaining);
        let ledger = world.control.ledger();
        let call = ledger.sends().next().unwrap();
        assert!(!call.reply_delivered && call.answered_at.is_some());
        assert_eq!(call.errcode, remaining.filter(|left| *left == 0).map(|_| 0));
    }
}

#[tokio::test]
async fn an_errcode_on_demand_strikes_before_or_after_the_credit() {
    let world = scripted(Action::errcode(-1)).await;
    let answer = world.send(&message()).await;
    assert_refused(&answer, -1);
    assert!(
        answer["errmsg"]
            .as_str()
            .unwrap()
            .starts_with("system error rid:")
    );
    assert_eq!(world.remaining(), Some(1));

    let world = scripted(Action::errcode_after_credit(-1)).await;
    assert_refused(&world.send(&message()).await, -1);
    assert_eq!((world.accepted(), world.remaining()), (1, Some(0)));
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert_eq!(
        (call.errcode, call.accepted, call.reply_delivered),
        (Some(-1), true, false)
    );
}

#[tokio::test]
async fn a_slow_answer_keeps_the_user_busy() {
    let world = scripted(Action::delay(PATIENCE)).await;
    world.control.grant(APP, USER, TEMPLATE, 1);
    let slow = world.start_send(message()).await;
    world
        .control
        .wait_until(|counts| counts.sends_accepted == 1)
        .await;
    assert_refused(&world.send(&message()).await, 43108);
    slow.abort();
    world.control.wait_for_sends(2, PATIENCE).await.unwrap();
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_late_answer_is_the_true_one() {
    let world = scripted(Action::delay(Duration::from_millis(5))).await;
    assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert!(call.reply_delivered);
    assert!(call.answered_at.unwrap() - call.arrived_at >= chrono::TimeDelta::milliseconds(5));
}

/// What is no errcode answer, with the credit taken all the same.
#[tokio::test]
async fn a_reply_can_be_replaced_after_the_credit_was_taken() {
    let after_credit = true;
    let body = "busy".to_owned();
    let cases = [
        (
            Action::HttpStatus {
                status: 502,
                after_credit,
            },
            502,
            "<html>",
        ),
        (Action::EmptyBody { after_credit }, 200, ""),
        (Action::HalfJson { after_credit }, 200, r#"{"errcode":0"#),
        (
            Action::HugeErrcode { after_credit },
            200,
            r#"{"errcode":98765432109876543210987"#,
        ),
        (
            Action::Body {
                status: 200,
                body,
                after_credit,
            },
            200,
            "busy",
        ),
    ];
    for (action, status, beginning) in cases {
        let world = scripted(action.clone()).await;
        let (seen, text) = world.raw_send().await.unwrap();
        assert_eq!(seen, status, "{action:?}");
        assert!(text.starts_with(beginning), "{action:?} gave {text:?}");
        let answer = serde_json::from_str::<Value>(&text);
        assert!(answer.is_err() || answer.unwrap()["errcode"].as_i64().is_none());
        assert_eq!((world.accepted(), world.remaining()), (1, Some(0)));
        assert_eq!(world.control.counts().replies_lost, 1);
    }
}

#[tokio::test]
async fn a_gateway_page_before_the_credit_takes_nothing() {
    let world = scripted(Action::http_status(503)).await;
    let (status, _) = world.raw_send().await.unwrap();
    assert_eq!((status, world.remaining()), (503, Some(1)));
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_cut_body_ends_before_its_announced_length() {
    let world = scripted(Action::CutBody { after_credit: true }).await;
    let error = world.raw_send().await.unwrap_err();
    assert!(error.is_body() || error.is_decode(), "{error:?}");
    assert!(!error.is_timeout());
    assert_eq!(world.remaining(), Some(0));
}

#[tokio::test]
async fn a_huge_body_is_as_long_as_asked() {
    let bytes = 3_000_000;
    let world = scripted(Action::HugeBody {
        bytes,
        after_credit: false,
    })
    .await;
    let (status, text) = world.raw_send().await.unwrap();
    assert_eq!(status, 200);
    assert!(text.len() as u64 >= bytes);
    assert!(serde_json::from_str::<Value>(&text).is_ok());
}

#[tokio::test]
async fn a_rule_hits_only_the_calls_it_describes() {
    let world = World::open().await;
    let rule = Rule::send(Action::errcode(-1))
        .openid(USER)
        .after(1)
        .times(2);
    world.control.script(rule);
    let mut errcodes = Vec::new();
    for openid in [USER, OTHER_USER, USER, OTHER_USER, USER, USER] {
        let answer = world.send(&message_to(openid)).await;
        errcodes.push(answer["errcode"].as_i64().unwrap());
    }
    assert_eq!(errcodes, [0, 0, -1, 0, -1, 0]);
    world
        .control
        .script(Rule::send(Action::errcode(48001)).template_id(TEMPLATE));
    assert_refused(&world.send(&message()).await, 48001);
    world.control.clear_scripts();
    assert_sent(&world.send(&message()).await);
    world
        .control
        .script(Rule::token(Action::errcode(-1)).appid("wxAnother"));
    assert_refused(&world.stable("wxAnother", "x", false).await, -1);
    token_of(&world.stable(APP, SECRET, false).await);
}

#[tokio::test]
async fn a_caller_who_leaves_a_held_send_took_nothing_and_frees_the_user() {
    let world = World::open().await;
    world.control.hold();
    world
        .send_and_leave(|counts| counts.sends_arrived == 1)
        .await;
    world.control.wait_for_sends(1, PATIENCE).await.unwrap();
    world.control.release();
    assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert_eq!(
        (call.accepted, call.answered_at, call.reply_delivered),
        (false, None, false)
    );
    assert_eq!(call.fault.as_deref(), Some("caller_gone"));
}

/// The message was accepted before the wait began.
#[tokio::test]
async fn a_caller_who_leaves_late_leaves_a_sent_message_behind() {
    let world = World::open().await;
    world.control.script(Rule::send(Action::delay(PATIENCE)));
    world
        .send_and_leave(|counts| counts.sends_accepted == 1)
        .await;
    world.control.wait_for_sends(1, PATIENCE).await.unwrap();
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert!(call.accepted && !call.reply_delivered && call.answered_at.is_none());
    assert_eq!(ledger.counts.replies_lost, 1);
}

/// Half of the latency passes before the call is judged.
#[tokio::test]
async fn a_caller_who_leaves_early_in_the_latency_was_never_judged() {
    let world = World::open().await;
    world.token().await;
    let path = format!("{SEND_PATH}?access_token={}", world.token().await);
    world.control.set_latency(10 * PATIENCE);
    let request = world
        .http
        .post(world.url(&path))
        .body(message().to_string());
    let sending = tokio::spawn(request.send());
    world.control.wait_for_calls(1).await;
    sending.abort();
    world.control.wait_for_sends(1, PATIENCE).await.unwrap();
    assert_eq!(
        (world.accepted(), world.control.counts().replies_lost),
        (0, 0)
    );
}

// Ledger, waiting, control

#[tokio::test]
async fn a_held_send_has_arrived_but_is_not_judged() {
    let world = World::open().await;
    world.control.hold();
    let held = world.start_send(message()).await;
    world.control.wait_for_calls(1).await;
    assert_eq!(
        (world.accepted(), world.control.counts().sends_answered),
        (0, 0)
    );
    let too_soon = world
        .control
        .wait_for_sends(1, Duration::from_millis(10))
        .await;
    assert_eq!(too_soon.unwrap_err().seen, 0);
    // What changes while the send waits counts when it is judged.
    world.control.refuse(APP, USER, TEMPLATE, true);
    world.control.release();
    assert_refused(&held.await.unwrap(), 43101);
}

#[tokio::test]
async fn the_ledger_tells_each_call_in_order_of_arrival() {
    let world = World::open().await;
    let msgid = assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    let paths: Vec<&str> = ledger.calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths, [STABLE_TOKEN_PATH, SEND_PATH]);
    let call = &ledger.calls[1];
    assert_eq!((call.sequence, call.appid.as_str()), (2, APP));
    assert_eq!(
        (call.openid.as_str(), call.template_id.as_str()),
        (USER, TEMPLATE)
    );
    assert_eq!((call.errcode, call.msgid), (Some(0), Some(msgid)));
    assert!(call.answered_at.unwrap() >= call.arrived_at && call.reply_delivered);
    assert!(!call.credit_taken, "an unlimited pair has none to take");
    assert_eq!(call.value("thing1").as_deref(), Some("手冲咖啡两杯"));
    assert_eq!((ledger.counts.calls, ledger.counts.token_calls), (2, 1));
    assert_eq!(ledger.counts.errcodes[&0], 2);
}

#[tokio::test]
async fn a_ledger_of_counts_keeps_the_sums_and_no_calls() {
    let ledger = LedgerDetail::Counts;
    let world = World::with(SimulateOptions {
        ledger,
        ..SimulateOptions::default()
    })
    .await;
    world.control.grant(APP, USER, TEMPLATE, 1);
    assert_sent(&world.send(&message()).await);
    assert_refused(&world.send(&message()).await, 43101);
    let ledger = world.control.ledger();
    assert!(ledger.calls.is_empty());
    assert_eq!(
        (ledger.counts.sends_arrived, ledger.counts.sends_accepted),
        (2, 1)
    );
    assert_eq!(ledger.counts.errcodes[&43101], 1);
    assert_eq!(ledger.pair(APP, USER, TEMPLATE).unwrap().credits_taken, 1);
}

#[tokio::test]
async fn a_ledger_of_counts_forgets_whom_nothing_was_said_about() {
    let world = World::with(SimulateOptions {
        ledger: LedgerDetail::Counts,
        ..SimulateOptions::default()
    })
    .await;
    world.control.refuse(APP, "o-refuses", TEMPLATE, true);
    assert_sent(&world.send(&message()).await);
    assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    assert_eq!(ledger.counts.sends_accepted, 2);
    let openids: Vec<_> = ledger.pairs.iter().map(|pair| &pair.openid).collect();
    assert_eq!(openids, ["o-refuses"]);
}

#[tokio::test]
async fn one_seed_gives_the_same_tokens_twice() {
    let seeded = |seed| SimulateOptions {
        seed: Some(seed),
        ..SimulateOptions::default()
    };
    let first = World::with(seeded(7)).await.token().await;
    assert_eq!(World::with(seeded(7)).await.token().await, first);
    assert_ne!(World::with(seeded(8)).await.token().await, first);
}

#[tokio::test]
async fn a_control_request_that_makes_no_sense_says_why() {
    let world = World::open().await;
    let cases = [
        (
            "grant",
            json!({"appid": APP, "openid": USER}),
            "template_id",
        ),
        ("script", json!({"action": "explode"}), "explode"),
        ("latency", json!({"ms": "soon"}), "soon"),
        ("dance", json!({}), "dance"),
    ];
    for (operation, body, mention) in cases {
        let url = world.url(&format!("/_control/{operation}"));
        let request = world.http.post(url).body(body.to_string());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400);
        let text = response.text().await.unwrap();
        assert!(text.contains(mention), "{text}");
    }
    let url = world.url("/_control/wait?arrived=1&timeout_ms=10");
    let response = world.http.get(url).send().await.unwrap();
    assert_eq!(response.status(), 408);
}

#[tokio::test]
async fn every_operation_is_there_over_http_too() {
    let world = World::open().await;
    let operate = async |operation: &str, body: Value| {
        let answer = world
            .post(&format!("/_control/{operation}"), body.to_string())
            .await;
        assert_eq!(answer, json!({"ok": true}), "{operation}");
    };
    operate("app", json!({"appid": APP, "secret": SECRET})).await;
    operate(
        "template",
        json!({"appid": APP, "template_id": TEMPLATE, "fields": ["thing1"]}),
    )
    .await;
    operate("user", json!({"appid": APP, "openid": OTHER_USER})).await;
    operate(
        "grant",
        json!({"appid": APP, "openid": USER, "template_id": TEMPLATE, "credits": 2}),
    )
    .await;
    operate(
        "refuse",
        json!({"appid": APP, "openid": USER, "template_id": TEMPLATE}),
    )
    .await;
    assert_refused(&world.send(&message()).await, 43101);
    operate(
        "refuse",
        json!({"appid": APP, "openid": USER, "template_id": TEMPLATE, "refuses": false}),
    )
    .await;
    operate(
        "ban_template",
        json!({"appid": APP, "template_id": TEMPLATE}),
    )
    .await;
    assert_refused(&world.send(&message()).await, 43107);
    operate(
        "ban_template",
        json!({"appid": APP, "template_id": TEMPLATE, "banned": false}),
    )
    .await;
    operate("sensitive_words", json!({"words": ["咖啡"]})).await;
    assert_refused(&world.send(&message()).await, 45168);
    operate("sensitive_words", json!({"words": []})).await;
    operate(
        "script",
        json!({"openid": USER, "count": 1, "action": "errcode", "errcode": -1}),
    )
    .await;
    assert_refused(&world.send(&message()).await, -1);
    operate("script", json!({"action": "hang"})).await;
    operate("clear_scripts", json!({})).await;
    operate("quota", json!({"appid": APP, "daily": 0})).await;
    assert_refused(&world.send(&message()).await, 45009);
    operate("quota", json!({"appid": APP})).await;
    operate("latency", json!({"ms": 1})).await;
    let capacity =
        json!({"at_once": 50, "refuses_from": 90, "action": "http_status", "status": 503});
    operate("capacity", json!({ "capacity": capacity })).await;
    let token = world.token().await;
    operate("steal_token", json!({"appid": APP})).await;
    assert_refused(&world.send_with(&token, &message()).await, 40001);
    let token = world.token().await;
    operate("expire_token", json!({"appid": APP})).await;
    assert_refused(&world.send_with(&token, &message()).await, 42001);
    let token = world.token().await;
    operate("clock", json!({"advance_secs": 7200})).await;
    assert_refused(&world.send_with(&token, &message()).await, 42001);
    operate("hold", json!({})).await;
    let held = world.start_send(message()).await;
    assert_eq!(
        world.get("/_control/wait?arrived=9").await,
        json!({"ok": true})
    );
    operate("release", json!({})).await;
    let msgid = assert_sent(&held.await.unwrap());
    let ledger = world.get("/_control/ledger").await;
    assert_eq!(ledger["pairs"][0]["remaining"], 1);
    assert_eq!(
        ledger["calls"].as_array().unwrap().last().unwrap()["msgid"],
        msgid
    );
    operate("reset", json!({})).await;
    let ledger = world.get("/_control/ledger").await;
    assert_eq!(
        (&ledger["calls"], &ledger["pairs"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(ledger["counts"]["sends_arrived"], 0);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_stopped_fake_breaks_its_connections_and_listens_no_more() {
    let world = World::open().await;
    world
        .control
        .script(Rule::send(Action::hang_before_credit()));
    let path = format!("{SEND_PATH}?access_token={}", world.token().await);
    let url = world.url(&path);
    let request = world.http.post(&url).body(message().to_string());
    let hanging = tokio::spawn(request.send());
    world.control.wait_for_calls(1).await;
    world.fake.stop().await;
    assert!(!hanging.await.unwrap().unwrap_err().is_timeout());
    assert!(world.http.get(&url).send().await.unwrap_err().is_connect());
    assert_eq!(world.control.ledger().sends().count(), 1);
}

// The program

#[tokio::test]
async fn the_program_says_which_address_it_cannot_listen_on() {
    let world = World::open().await;
    let taken = world.fake.address().to_string();
    let program = Command::new(env!("CARGO_BIN_EXE_wxnotify"))
        .args(["simulate", "--listen", &taken])
        .output();
    let output = program.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains(&taken) && complaint.contains("--listen"),
        "{complaint}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn the_program_says_where_it_listens_and_serves_until_interrupted() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let mut program = Command::new(env!("CARGO_BIN_EXE_wxnotify"))
        .args(["simulate", "--listen", "127.0.0.1:0", "--strict"])
        .args(["--appid", APP, "--secret", SECRET])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let base_url = first.split_whitespace().last().unwrap();
    let query = "grant_type=client_credential&appid";
    let unknown = reqwest::get(format!("{base_url}{TOKEN_PATH}?{query}=wx9&secret=x")).await;
    assert_refused(&read(unknown.unwrap()).await, 40013);
    let known = reqwest::get(format!(
        "{base_url}{TOKEN_PATH}?{query}={APP}&secret={SECRET}"
    ))
    .await;
    token_of(&read(known.unwrap()).await);
    let help = reqwest::get(format!("{base_url}/_control/")).await.unwrap();
    assert!(help.text().await.unwrap().contains("/_control/grant"));
    let pid = Pid::from_raw(program.id().unwrap().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    assert!(program.wait().await.unwrap().success());
}
