//! What can be asked of the fake over HTTP: each operation once, with its body, an example and a word about it. The list of
//! `GET /_control/`, the one in `--help` and the documentation of [`OPERATIONS`] are made of it.
//!
//! Start at the rows below the macro.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::account::{AppSpec, TemplateSpec};
use super::super::callback::CallbackSpec;
use super::super::card::{CardCodeSpec, CardTypeSpec};
use super::super::script::{Capacity, Rule};
use super::super::tap::Tap;

/// A line of the list of operations.
#[derive(Debug)]
pub struct OperationLine {
    /// The path after `/_control/`.
    pub name: &'static str,
    /// A body, empty where none is needed.
    pub example: &'static str,
    /// What it does, and what else the body may hold.
    pub help: &'static str,
}

macro_rules! operations {
    ($($operation:ident $(($body:ty))? = $name:literal, $example:literal, $help:literal;)*) => {
        /// What a control request asks for: the path's last part names it, the body is it.
        #[derive(Debug, Deserialize)]
        #[serde(tag = "operation")]
        pub(super) enum Operation {
            $(#[serde(rename = $name)] $operation $(($body))?,)*
        }

        /// Every operation. An answer is `{"ok":true}`, or HTTP 400 with `{"error":"…"}`.
        ///
        $(#[doc = concat!("* `POST /_control/", $name, "` `", $example, "`: ", $help)])*
        pub static OPERATIONS: &[OperationLine] = &[$(OperationLine {
            name: $name,
            example: $example,
            help: $help,
        }),*];
    };
}

operations! {
    App(AppSpec) = "app", r#"{"appid":"…","secret":"…"}"#,
        "an app whose secret is checked; also ip_whitelist, admin_confirmation, secret_frozen";
    Template(TemplateOf) = "template", r#"{"appid":"…","template_id":"…","fields":["thing2"]}"#,
        "a template with its keys; also title, enums, long_term, device, banned";
    RemoveTemplate(TemplateId) = "remove_template", r#"{"appid":"…","template_id":"…"}"#,
        "gone from gettemplate, its sends get 40037";
    BanTemplate(Ban) = "ban_template", r#"{"appid":"…","template_id":"…","banned":true}"#,
        "its sends get 43107";
    User(UserOf) = "user", r#"{"appid":"…","openid":"…"}"#,
        "strict mode knows the openid";
    Grant(Grant) = "grant", r#"{"appid":"…","openid":"…","template_id":"…","credits":1}"#,
        "credits of a user for a template";
    Refuse(Refuse) = "refuse", r#"{"appid":"…","openid":"…","template_id":"…","refuses":true}"#,
        "while the user refuses, sends get 43101";
    Tap(Tap) = "tap", r#"{"appid":"…","openid":"…","answers":[{"template_id":"…","answer":"accept"}],"always_keep":false}"#,
        "a user answers \"accept\" or \"reject\": credits, refusals and the pop-up event; with always_keep no event";
    RejectLater(PairOf) = "reject_later", r#"{"appid":"…","openid":"…","template_id":"…"}"#,
        "turned off in the card's menu, with the change event";
    SendElsewhere(PairOf) = "send_elsewhere", r#"{"appid":"…","openid":"…","template_id":"…"}"#,
        "another system spends a credit; answers its msgid too, null for its 43101";
    Script(Rule) = "script", r#"{"path":"…","appid":"…","openid":"…","template_id":"…","after":0,"count":1,"probability":1,"action":"errcode","errcode":-1}"#,
        "a fault for the calls that match. Actions: errcode (errcode, errmsg), hang, delay (ms), reset, http_status (status), empty_body, half_json, cut_body, huge_body (bytes), huge_errcode, body (body, status); with \"after_credit\":true the message is accepted first and only its reply is lost";
    ClearScripts = "clear_scripts", "",
        "no more faults";
    StealToken(AppOnly) = "steal_token", r#"{"appid":"…"}"#,
        "tokens die: 40001";
    ExpireToken(AppOnly) = "expire_token", r#"{"appid":"…"}"#,
        "tokens expire: 42001";
    Latency(Latency) = "latency", r#"{"ms":20}"#,
        "how long every call takes";
    Capacity(CapacityIs) = "capacity", r#"{"capacity":{"at_once":20,"refuses_from":60,"action":"errcode","errcode":-1}}"#,
        "more sends than at_once wait; those that come while refuses_from are inside meet the action; null lifts it";
    Quota(Quota) = "quota", r#"{"appid":"…","daily":100,"per_minute":10}"#,
        "of sends, absent is without limit; also \"path\" of another call";
    Clock(Clock) = "clock", r#"{"advance_secs":3600}"#,
        "tokens age, quotas return";
    SensitiveWords(Words) = "sensitive_words", r#"{"words":["…"]}"#,
        "a message with one of them gets 45168";
    Callback(CallbackOf) = "callback", r#"{"appid":"…","url":"http://127.0.0.1:9464/wechat/callback/{appid}","token":"…"}"#,
        "where and how events are pushed; also aeskey, \"mode\":\"plaintext\" | \"compatible\" | \"safe\", \"format\":\"json\" | \"xml\", \"list\":\"usual\" | \"array\" | \"wrapped\", \"numbers\":true, \"timing\":\"before_reply\" | \"after_reply\" | \"never\", \"delay_ms\":0, \"times\":1, \"error_code\":0, \"error_status\":\"success\"";
    Popup(Answers) = "popup", r#"{"appid":"…","openid":"…","entries":[{"template_id":"…","status":"accept"}]}"#,
        "pushes the pop-up event, and only that";
    Change(Answers) = "change", r#"{"appid":"…","openid":"…","entries":[{"template_id":"…","status":"reject"}]}"#,
        "pushes the event of the card's menu, and only that";
    LoginCode(UserOf) = "login_code", r#"{"appid":"…","openid":"…"}"#,
        "answers a code too, for one jscode2session within 5 minutes";
    BlockLogin(BlockOf) = "block_login", r#"{"appid":"…","openid":"…","blocked":true}"#,
        "exchanges get 40226";
    SubscribeDevice(DeviceOf) = "subscribe_device", r#"{"appid":"…","openid":"…","template_id":"…","sn":"…","model_id":"…"}"#,
        "any number of messages about this device";
    CardType(CardTypeOf) = "card_type", r#"{"appid":"…","notify_type":2001,"states":[{"status":1,"activates":true,"after":[7],"is_final":false}]}"#,
        "the states of one kind of service card";
    CardCode(CardCodeOf) = "card_code", r#"{"appid":"…","openid":"…","notify_type":2001,"notify_code":"42…"}"#,
        "a payment or tap that may carry a card; also pay_amount, pay_time";
    CardFailure(CardFailure) = "card_failure", r#"{"appid":"…","notify_code":"…","fail_ret":-1004,"fail_msg":"…"}"#,
        "pushes the failure event, and only that";
    Punish(Punish) = "punish", r#"{"appid":"…","event_type":2,"reason":"…","banned_functions":"…"}"#,
        "pushes wxa_punish_event, and only that";
    Hold = "hold", "",
        "sends arrive, are recorded, and wait";
    Release = "release", "",
        "those that wait go on";
    Reset = "reset", "",
        "back to the state at the start";
}

impl Operation {
    /// Reads a request; an operation that needs nothing may come without a body.
    pub(super) fn read(name: &str, body: &[u8]) -> Result<Self, String> {
        let mut members: Map<String, Value> = if body.is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(body).map_err(|error| format!("body: {error}"))?
        };
        if !OPERATIONS.iter().any(|line| line.name == name) {
            let list = super::CONTROL_PREFIX;
            return Err(format!("no operation {name:?}; GET {list} lists them"));
        }
        members.insert("operation".to_owned(), name.into());
        serde_json::from_value(members.into()).map_err(|error| format!("body: {error}"))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct AppOnly {
    pub(super) appid: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct UserOf {
    pub(super) appid: String,
    pub(super) openid: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct PairOf {
    pub(super) appid: String,
    pub(super) openid: String,
    pub(super) template_id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Grant {
    pub(super) appid: String,
    pub(super) openid: String,
    pub(super) template_id: String,
    #[serde(default = "one")]
    pub(super) credits: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refuse {
    pub(super) appid: String,
    pub(super) openid: String,
    pub(super) template_id: String,
    #[serde(default = "yes")]
    pub(super) refuses: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct TemplateOf {
    pub(super) appid: String,
    #[serde(flatten)]
    pub(super) template: TemplateSpec,
}

#[derive(Debug, Deserialize)]
pub(super) struct TemplateId {
    pub(super) appid: String,
    pub(super) template_id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ban {
    pub(super) appid: String,
    pub(super) template_id: String,
    #[serde(default = "yes")]
    pub(super) banned: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct CapacityIs {
    pub(super) capacity: Option<Capacity>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Latency {
    pub(super) ms: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Quota {
    pub(super) appid: String,
    pub(super) path: Option<String>,
    pub(super) daily: Option<u64>,
    pub(super) per_minute: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Clock {
    pub(super) advance_secs: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct CallbackOf {
    pub(super) appid: String,
    #[serde(flatten)]
    pub(super) callback: CallbackSpec,
}

#[derive(Debug, Deserialize)]
pub(super) struct Answers {
    pub(super) appid: String,
    pub(super) openid: String,
    pub(super) entries: Vec<AnswerOf>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AnswerOf {
    pub(super) template_id: String,
    pub(super) status: String,
}

impl Answers {
    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        self.entries
            .iter()
            .map(|answer| (answer.template_id.as_str(), answer.status.as_str()))
            .collect()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct BlockOf {
    pub(super) appid: String,
    pub(super) openid: String,
    #[serde(default = "yes")]
    pub(super) blocked: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct DeviceOf {
    pub(super) appid: String,
    pub(super) openid: String,
    pub(super) template_id: String,
    pub(super) sn: String,
    pub(super) model_id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CardTypeOf {
    pub(super) appid: String,
    #[serde(flatten)]
    pub(super) card_type: CardTypeSpec,
}

#[derive(Debug, Deserialize)]
pub(super) struct CardCodeOf {
    pub(super) appid: String,
    #[serde(flatten)]
    pub(super) code: CardCodeSpec,
}

#[derive(Debug, Deserialize)]
pub(super) struct Punish {
    pub(super) appid: String,
    pub(super) event_type: u8,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) banned_functions: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct CardFailure {
    pub(super) appid: String,
    pub(super) notify_code: String,
    pub(super) fail_ret: i64,
    #[serde(default)]
    pub(super) fail_msg: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Words {
    pub(super) words: Vec<String>,
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}
