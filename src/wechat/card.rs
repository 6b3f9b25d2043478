//! Service cards: a state or the ext fields of a card as a request, and the state that WeChat shows, read back.
//!
//! WeChat wants strings that hold JSON; the rows hold the JSON itself. A card's state can be asked for, so a send whose
//! reply was lost is settled by asking. Its ext fields cannot.
//!
//! Start at [`request`], then [`reads_back`].

use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::access_token::AccessToken;
use super::message::{MessageError, write_string};
use super::{Exchange, Reply, Wechat, answer, read_send_reply};
use crate::notification::{Kind, Notification};

const SET_PATH: &str = "/wxa/set_user_notify";
const SET_EXT_PATH: &str = "/wxa/set_user_notifyext";
const GET_PATH: &str = "/wxa/get_user_notify";

/// What a service card has beside a plain message's columns.
#[derive(Deserialize)]
struct CardExtra<'a> {
    notify_code: String,
    #[serde(borrow)]
    check_json: Option<&'a RawValue>,
    #[serde(borrow)]
    ext_json: Option<&'a RawValue>,
}

/// How the state that WeChat shows stands to the row's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the row's, and no field of it says otherwise.
    Same,
    /// It is the row's, with other fields: an earlier update of the same state, perhaps.
    SameStateOtherwise,
    /// It has a larger number.
    Later,
    /// It has a smaller number.
    Earlier,
    /// The card was never given a state.
    Nothing,
}

impl Standing {
    /// For the record of the attempt.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Same => "WeChat shows the card in this state",
            Self::SameStateOtherwise => "WeChat shows the card in this state, with other fields",
            Self::Later => "WeChat shows the card in a later state",
            Self::Earlier => "WeChat shows the card in an earlier state",
            Self::Nothing => "WeChat shows no state of the card",
        }
    }
}

/// Whether WeChat can be asked if the row's send arrived.
pub fn reads_back(notification: &Notification) -> bool {
    notification.kind.reads_back()
        && extra_of(notification).is_ok_and(|extra| extra.ext_json.is_none())
}

fn extra_of(notification: &Notification) -> Result<CardExtra<'_>, MessageError> {
    let extra = notification.extra.as_deref().unwrap_or_default();
    let kind = Kind::ServiceCard.as_str();
    serde_json::from_str(extra).map_err(|_| MessageError::BadExtra { kind })
}

/// The path and the body of an update.
pub(super) fn request(
    notification: &Notification,
) -> Result<(&'static str, Vec<u8>), MessageError> {
    let extra = extra_of(notification)?;
    let mut body = begin(notification, &extra)?;
    let path = if let Some(ext_json) = extra.ext_json {
        write_member(&mut body, "ext_json", ext_json.get());
        SET_EXT_PATH
    } else {
        if let Some(check_json) = extra.check_json {
            write_member(&mut body, "check_json", check_json.get());
        }
        write_member(&mut body, "content_json", &notification.data);
        SET_PATH
    };
    body.push(b'}');
    Ok((path, body))
}

/// What all calls name: the user, the card and the code.
fn begin(notification: &Notification, extra: &CardExtra<'_>) -> Result<Vec<u8>, MessageError> {
    let notify_type: u32 = notification
        .template_id
        .parse()
        .map_err(|_| MessageError::NotANotifyType)?;
    let mut body = Vec::with_capacity(notification.data.len() + 400);
    body.extend_from_slice(b"{\"openid\":");
    write_string(&mut body, notification.openid.expose());
    body.extend_from_slice(format!(",\"notify_type\":{notify_type},\"notify_code\":").as_bytes());
    write_string(&mut body, &extra.notify_code);
    Ok(body)
}

fn write_member(body: &mut Vec<u8>, name: &str, text: &str) {
    body.extend_from_slice(b",\"");
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(b"\":");
    write_string(body, text);
}

#[derive(Deserialize)]
struct ShownReply {
    notify_info: Option<NotifyInfo>,
}

#[derive(Deserialize)]
struct NotifyInfo {
    #[serde(default)]
    content_json: String,
}

impl Wechat {
    /// Asks for the state of the card that the row is about.
    ///
    /// # Errors
    ///
    /// What came instead: a refusal, or no readable answer. Nothing was changed, whichever it is.
    ///
    /// Source: <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/getUserNotify.html>
    pub async fn read_card(
        &self,
        token: &AccessToken,
        notification: &Notification,
    ) -> Result<Standing, Reply> {
        let unreadable = |reason: &str, took| Reply::PossiblySent {
            reason: reason.to_owned(),
            http_status: None,
            took,
        };
        let body = extra_of(notification).and_then(|extra| begin(notification, &extra));
        let Ok(mut body) = body else {
            return Err(unreadable("the row names no card", Duration::ZERO));
        };
        body.push(b'}');
        let (exchange, took) = self.post(GET_PATH, Some(token), Bytes::from(body)).await;
        match exchange {
            Exchange::Answered { status, body, .. } => read_shown(status, &body, notification)
                .ok_or_else(|| {
                    match read_send_reply(status, &body, notification.openid.expose(), took) {
                        Reply::Answered { errcode: 0, .. } => {
                            unreadable("the reply shows no card", took)
                        }
                        refused => refused,
                    }
                }),
            Exchange::NotSent { reason } => Err(Reply::NotSent { reason, took }),
            Exchange::Lost { reason, status } => Err(Reply::PossiblySent {
                reason,
                http_status: status.map(|status| status.as_u16()),
                took,
            }),
        }
    }
}

fn read_shown(status: StatusCode, body: &[u8], notification: &Notification) -> Option<Standing> {
    let reply: ShownReply = answer::read(body)?;
    let shown = reply.notify_info.filter(|_| status.is_success())?;
    compare(&notification.data, &shown.content_json)
}

/// How the shown content stands to the row's; `None`: one of them cannot be read. WeChat may show fewer fields than it was given.
fn compare(ours: &str, shown: &str) -> Option<Standing> {
    if shown.trim().is_empty() {
        return Some(Standing::Nothing);
    }
    let ours: Map<String, Value> = serde_json::from_str(ours).ok()?;
    let shown: Map<String, Value> = serde_json::from_str(shown).ok()?;
    let status = |content: &Map<String, Value>| content.get("cur_status").and_then(Value::as_i64);
    let (our_status, shown_status) = (status(&ours)?, status(&shown)?);
    let contradicts = |(name, value): (&String, &Value)| {
        ours.get(name).is_some_and(|our_value| our_value != value)
    };
    Some(match shown_status.cmp(&our_status) {
        std::cmp::Ordering::Less => Standing::Earlier,
        std::cmp::Ordering::Greater => Standing::Later,
        std::cmp::Ordering::Equal if shown.iter().any(contradicts) => Standing::SameStateOtherwise,
        std::cmp::Ordering::Equal => Standing::Same,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notification::sample;

    fn card(extra: &str, data: &str) -> Notification {
        Notification {
            kind: Kind::ServiceCard,
            template_id: "2001".into(),
            extra: Some(extra.into()),
            data: data.into(),
            ..sample()
        }
    }

    fn request_of(extra: &str, data: &str) -> (&'static str, String) {
        let (path, body) = request(&card(extra, data)).unwrap();
        (path, String::from_utf8(body).unwrap())
    }

    const STATE: &str = r#"{"cur_status": 1, "wxa_path_query": "pages/o?id=42"}"#;

    #[test]
    fn an_activation_carries_state_and_payment_as_strings() {
        assert_eq!(
            request_of(
                r#"{"check_json": {"pay_time": 1795330860, "pay_amount": 3600}, "notify_code": "42001"}"#,
                STATE
            ),
            (
                "/wxa/set_user_notify",
                r#"{"openid":"oUser0000000000000000000001","notify_type":2001,"notify_code":"42001","check_json":"{\"pay_time\": 1795330860, \"pay_amount\": 3600}","content_json":"{\"cur_status\": 1, \"wxa_path_query\": \"pages/o?id=42\"}"}"#.to_owned()
            )
        );
    }

    #[test]
    fn an_update_carries_the_state_alone() {
        assert_eq!(
            request_of(r#"{"notify_code": "42001"}"#, STATE),
            (
                "/wxa/set_user_notify",
                r#"{"openid":"oUser0000000000000000000001","notify_type":2001,"notify_code":"42001","content_json":"{\"cur_status\": 1, \"wxa_path_query\": \"pages/o?id=42\"}"}"#.to_owned()
            )
        );
    }

    #[test]
    fn ext_fields_go_to_their_own_path() {
        assert_eq!(
            request_of(r#"{"ext_json": {"store_info": "杯"}, "notify_code": "42001"}"#, "{}"),
            (
                "/wxa/set_user_notifyext",
                r#"{"openid":"oUser0000000000000000000001","notify_type":2001,"notify_code":"42001","ext_json":"{\"store_info\": \"杯\"}"}"#.to_owned()
            )
        );
    }

    #[test]
    fn a_card_without_code_or_number_is_no_message() {
        let kind = "service_card";
        for extra in ["{}", "[]", r#"{"notify_code": 42}"#] {
            let error = request(&card(extra, STATE)).unwrap_err();
            assert_eq!(error, MessageError::BadExtra { kind }, "{extra}");
        }
        let mut unnumbered = card(r#"{"notify_code": "42001"}"#, STATE);
        unnumbered.template_id = "card".into();
        assert_eq!(
            request(&unnumbered).unwrap_err(),
            MessageError::NotANotifyType
        );
    }

    #[test]
    fn only_a_state_can_be_read_back() {
        let code = r#"{"notify_code": "42001"}"#;
        assert!(reads_back(&card(code, STATE)));
        let ext = r#"{"notify_code": "42001", "ext_json": {}}"#;
        assert!(!reads_back(&card(ext, "{}")));
        let mut plain = card(code, STATE);
        plain.kind = Kind::OneTime;
        assert!(!reads_back(&plain));
    }

    #[test]
    fn states_are_compared_by_number_and_then_by_the_fields_that_are_shown() {
        for (shown, standing) in [
            ("", Some(Standing::Nothing)),
            (r#"{"cur_status":1}"#, Some(Standing::Same)),
            (
                r#"{"cur_status":1,"wxa_path_query":"pages/o?id=42"}"#,
                Some(Standing::Same),
            ),
            (
                r#"{"cur_status":1,"seen_by":"WeChat"}"#,
                Some(Standing::Same),
            ),
            (
                r#"{"cur_status":1,"wxa_path_query":"pages/o?id=7"}"#,
                Some(Standing::SameStateOtherwise),
            ),
            (r#"{"cur_status":2}"#, Some(Standing::Later)),
            (r#"{"cur_status":0}"#, Some(Standing::Earlier)),
            (r#"{"wxa_path_query":"pages/o"}"#, None),
            (r#"{"cur_status":"1"}"#, None),
            ("[]", None),
            ("{", None),
        ] {
            assert_eq!(compare(STATE, shown), standing, "{shown}");
        }
    }
}
