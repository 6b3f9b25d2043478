//! Service cards: a code that a payment or a tap brought, the states it may go through, and reading the state back.
//!
//! Start at [`Card`].

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::api::Api;
use super::reply::{Refusal, Reply};
use super::send::{Inquiry, Request};
use super::state::State;

/// The event of a push that failed.
pub(super) const CARD_FAILED_EVENT: &str = "notify_service_msg_send_result";

/// The states of one kind of service card. As JSON: `{"notify_type":2001,"states":[{"status":1,"activates":true,"after":[7]}]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardTypeSpec {
    /// The card's id.
    pub notify_type: u32,
    /// Every state it knows.
    pub states: Vec<CardStateSpec>,
}

/// One state of a service card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardStateSpec {
    /// `cur_status`.
    pub status: i64,
    /// Whether a card may begin with it.
    #[serde(default)]
    pub activates: bool,
    /// The states it may follow.
    #[serde(default)]
    pub after: Vec<i64>,
    /// Whether no state may follow it.
    #[serde(default)]
    pub is_final: bool,
}

/// A payment or tap that may carry a service card. As JSON the amounts may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardCodeSpec {
    /// Who paid or tapped.
    pub openid: String,
    /// The card's id.
    pub notify_type: u32,
    /// WeChat Pay's transaction id, or the code of the button.
    pub notify_code: String,
    /// What was paid, in fen: `check_json` must say the same.
    #[serde(default)]
    pub pay_amount: Option<i64>,
    /// When it was paid, in Unix seconds.
    #[serde(default)]
    pub pay_time: Option<i64>,
}

/// What WeChat shows of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardView {
    /// The card's present state; `None`: it was never activated.
    pub cur_status: Option<i64>,
    /// The last `content_json`, empty before the first.
    pub content_json: String,
    /// The last `ext_json`, empty before the first.
    pub ext_json: String,
}

/// One card.
#[derive(Debug)]
pub(super) struct Card {
    openid: String,
    notify_type: String,
    pay: Option<(i64, i64)>,
    known_at: DateTime<Utc>,
    activated_at: Option<DateTime<Utc>>,
    status: Option<i64>,
    content_json: String,
    ext_json: String,
    pub code_state: i64,
}

impl Card {
    pub fn view(&self) -> CardView {
        CardView {
            cur_status: self.status,
            content_json: self.content_json.clone(),
            ext_json: self.ext_json.clone(),
        }
    }

    /// Whether the code comes from a payment, by the card's id.
    fn is_of_a_payment(&self) -> bool {
        self.notify_type.starts_with('2')
    }

    /// Until when it takes an update.
    fn ends_at(&self) -> DateTime<Utc> {
        let (activation, life) = if self.is_of_a_payment() {
            (TimeDelta::hours(24), TimeDelta::days(30))
        } else {
            (TimeDelta::minutes(5), TimeDelta::hours(24))
        };
        self.activated_at
            .map_or(self.known_at + activation, |at| at + life)
    }
}

/// The body of the three calls; what is missing is empty.
#[derive(Deserialize)]
pub(super) struct CardBody<'a> {
    #[serde(borrow, default)]
    openid: Cow<'a, str>,
    #[serde(borrow, default)]
    notify_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    notify_code: Cow<'a, str>,
    #[serde(borrow, default)]
    pub content_json: Cow<'a, str>,
    #[serde(borrow, default)]
    check_json: Cow<'a, str>,
    #[serde(borrow, default)]
    ext_json: Cow<'a, str>,
}

impl CardBody<'_> {
    /// The user and the card's id.
    pub fn receiver(&self) -> (&str, &str) {
        (&self.openid, self.notify_type.map_or("", RawValue::get))
    }
}

impl State {
    pub fn issue_card_code(&mut self, appid: &str, spec: CardCodeSpec) {
        self.know_user(appid, &spec.openid);
        let card = Card {
            openid: spec.openid,
            notify_type: spec.notify_type.to_string(),
            pay: spec.pay_amount.zip(spec.pay_time),
            known_at: self.now(),
            activated_at: None,
            status: None,
            content_json: String::new(),
            ext_json: String::new(),
            code_state: 0,
        };
        self.app(appid).cards.insert(spec.notify_code, card);
    }

    /// The fields of a failure event and its user.
    pub fn card_failure(
        &self,
        appid: &str,
        notify_code: &str,
        fail_ret: i64,
        fail_msg: &str,
    ) -> Option<(String, Vec<(&'static str, String)>)> {
        let card = self.apps.get(appid)?.cards.get(notify_code)?;
        let entry = vec![
            ("openid", card.openid.clone()),
            ("notify_code", format!("p1.{notify_code}")),
            ("notify_type", card.notify_type.clone()),
            ("card_status", card.status.unwrap_or_default().to_string()),
            ("fail_ret", fail_ret.to_string()),
            ("fail_msg", fail_msg.to_owned()),
        ];
        Some((card.openid.clone(), entry))
    }

    /// A new state of a card. It is pushed, and the state kept, whatever becomes of the reply.
    pub fn judge_set_card(
        &mut self,
        inquiry: &Inquiry<'_>,
        concurrent: bool,
    ) -> Result<Reply, Refusal> {
        let (appid, body) = self.begin_card(inquiry, Api::SetUserNotify, concurrent)?;
        let content = read_object(&body.content_json).ok_or_else(|| Refusal::new(85435))?;
        let status = content.get("cur_status").map(Value::as_i64);
        let (Some(status), true) = (status, content.contains_key("wxa_path_query")) else {
            return Err(Refusal::new(85440));
        };
        let status = status.ok_or_else(|| Refusal::new(85441))?;
        if !content["wxa_path_query"].is_string() {
            return Err(Refusal::new(85441));
        }
        let now = self.now();
        let spec = self.card_type(&appid, body)?;
        self.check_card(&appid, body)?;
        let card = &self.app(&appid).cards[&*body.notify_code];
        check_transition(spec.as_ref(), card.status, status)?;
        if card.activated_at.is_none() && card.is_of_a_payment() {
            check_payment(card, &body.check_json)?;
        }
        if self.is_sensitive(&body.content_json) {
            return Err(Refusal::new(85442));
        }
        self.pair(&appid, &body.openid, body.receiver().1)
            .accept(true);
        if let Some(card) = self.app(&appid).cards.get_mut(&*body.notify_code) {
            card.activated_at.get_or_insert(now);
            card.status = Some(status);
            card.content_json = body.content_json.to_string();
        }
        Ok(Reply::accepted_without_msgid())
    }

    /// The fields of a card that belong to no state.
    pub fn judge_set_card_ext(
        &mut self,
        inquiry: &Inquiry<'_>,
        concurrent: bool,
    ) -> Result<Reply, Refusal> {
        let (appid, body) = self.begin_card(inquiry, Api::SetUserNotifyExt, concurrent)?;
        if read_object(&body.ext_json).is_none() {
            return Err(Refusal::new(85470));
        }
        self.card_type(&appid, body)?;
        self.check_card(&appid, body)?;
        self.pair(&appid, &body.openid, body.receiver().1)
            .accept(true);
        if let Some(card) = self.app(&appid).cards.get_mut(&*body.notify_code) {
            card.ext_json = body.ext_json.to_string();
        }
        Ok(Reply::accepted_without_msgid())
    }

    pub fn judge_get_card(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        let (appid, body) = self.begin_card(inquiry, Api::GetUserNotify, false)?;
        let cards = &self.app(&appid).cards;
        let card = cards
            .get(&*body.notify_code)
            .filter(|card| (card.openid.as_str(), card.notify_type.as_str()) == body.receiver())
            .ok_or_else(|| Refusal::new(85437))?;
        let notify_type: i64 = card.notify_type.parse().unwrap_or_default();
        let reply = json!({"errcode": 0, "errmsg": "ok", "notify_info": {
            "notify_type": notify_type,
            "content_json": card.content_json,
            "code_state": card.code_state,
            "code_expire_time": card.ends_at().timestamp(),
        }});
        Ok(Reply::ok(reply.to_string()))
    }

    /// What the three calls have in common: method, token, quota, body, openid, and the lock of the code.
    fn begin_card<'a>(
        &mut self,
        inquiry: &'a Inquiry<'_>,
        api: Api,
        concurrent: bool,
    ) -> Result<(String, &'a CardBody<'a>), Refusal> {
        inquiry.check_method()?;
        let appid = self.authorize(inquiry)?;
        self.meter(&appid, api)?;
        let Request::Card(body) = &inquiry.request else {
            return Err(Refusal::new(47001));
        };
        let body = body.as_ref().map_err(|errcode| Refusal::new(*errcode))?;
        if !self.knows_openid(&appid, &body.openid) {
            return Err(Refusal::new(40003));
        }
        if concurrent {
            return Err(Refusal::new(85449));
        }
        Ok((appid, body))
    }

    /// The card's state machine; `None` in open mode for a card that was given none.
    fn card_type(&self, appid: &str, body: &CardBody<'_>) -> Result<Option<CardTypeSpec>, Refusal> {
        let notify_type = body.receiver().1;
        let known = self.apps.get(appid);
        match known.and_then(|app| app.card_types.get(notify_type)) {
            Some(spec) => Ok(Some(spec.clone())),
            None if self.is_open() && notify_type.parse::<u32>().is_ok() => Ok(None),
            None => Err(Refusal::new(85434)),
        }
    }

    /// Whether the code may carry an update now; open mode takes unknown codes for new ones.
    fn check_card(&mut self, appid: &str, body: &CardBody<'_>) -> Result<(), Refusal> {
        let now = self.now();
        let (openid, notify_type) = body.receiver();
        if self.is_open() && !self.app(appid).cards.contains_key(&*body.notify_code) {
            let code = CardCodeSpec {
                openid: openid.to_owned(),
                notify_type: notify_type.parse().unwrap_or_default(),
                notify_code: body.notify_code.to_string(),
                pay_amount: None,
                pay_time: None,
            };
            self.issue_card_code(appid, code);
        }
        let errcode = match self.app(appid).cards.get(&*body.notify_code) {
            Some(card) if card.openid != openid || card.notify_type != notify_type => 85437,
            Some(card) if card.code_state >= 2 => 85436,
            Some(card) if card.ends_at() < now => 85438,
            Some(_) => return Ok(()),
            None => 85437,
        };
        Err(Refusal::new(errcode))
    }
}

/// 85448 for the state that is there already, 85439 for one that may not follow it.
fn check_transition(
    spec: Option<&CardTypeSpec>,
    present: Option<i64>,
    next: i64,
) -> Result<(), Refusal> {
    if present == Some(next) {
        return Err(Refusal::new(85448));
    }
    let Some(spec) = spec else {
        return if present.is_none_or(|present| next > present) {
            Ok(())
        } else {
            Err(Refusal::new(85439))
        };
    };
    let state_of = |status: i64| spec.states.iter().find(|state| state.status == status);
    let may_follow = match (present, state_of(next)) {
        (_, None) => false,
        (None, Some(state)) => state.activates,
        (Some(present), Some(state)) => {
            state.after.contains(&present) && !state_of(present).is_some_and(|state| state.is_final)
        }
    };
    may_follow.then_some(()).ok_or_else(|| Refusal::new(85439))
}

/// Activating a card of a payment needs the payment's figures: 85433 without, 85438 for others than those.
fn check_payment(card: &Card, check_json: &str) -> Result<(), Refusal> {
    let figures = read_object(check_json).and_then(|check| {
        Some((
            check.get("pay_amount")?.as_i64()?,
            check.get("pay_time")?.as_i64()?,
        ))
    });
    match (figures, card.pay) {
        (None, _) => Err(Refusal::new(85433)),
        (Some(figures), Some(pay)) if figures != pay => Err(Refusal::new(85438)),
        _ => Ok(()),
    }
}

/// A JSON object in a string.
fn read_object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}
