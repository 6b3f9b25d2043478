//! Control requests over HTTP: the operation that a request names is done on [`Control`].
//!
//! Start at [`answer`].

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::{SEND_PATH, server};
use super::operation::{CallbackOf, OPERATIONS, Operation, Quota};
use super::{CONTROL_PREFIX, Control, WaitTimedOut};

const JSON: &str = "application/json";

/// What a control request asks for besides its path.
pub(in crate::simulate) struct ControlRequest<'a> {
    pub method: &'a Method,
    /// The path after `/_control/`.
    pub operation: &'a str,
    pub query: &'a str,
    pub body: Bytes,
}

/// The HTTP control API: status, content type, body.
pub(in crate::simulate) async fn answer(
    control: &Control,
    request: ControlRequest<'_>,
) -> (StatusCode, &'static str, String) {
    let outcome = match (request.method, request.operation) {
        (&Method::GET, "") => return (StatusCode::OK, "text/plain; charset=utf-8", list()),
        (&Method::GET, "ledger") => {
            serde_json::to_string(&control.ledger()).map_err(|error| error.to_string())
        }
        (&Method::GET, "counts") => {
            serde_json::to_string(&control.counts()).map_err(|error| error.to_string())
        }
        (&Method::GET, "wait") => match wait(control, request.query).await {
            Ok(()) => Ok(json!({ "ok": true }).to_string()),
            Err(error) => {
                let body = json!({ "error": error.to_string() }).to_string();
                return (StatusCode::REQUEST_TIMEOUT, JSON, body);
            }
        },
        (&Method::POST, name) => Operation::read(name, &request.body)
            .and_then(|operation| operate(control, operation))
            .map(|answer| answer.to_string()),
        _ => Err(format!("no such request; GET {CONTROL_PREFIX} lists them")),
    };
    match outcome {
        Ok(body) => (StatusCode::OK, JSON, body),
        Err(error) => {
            let body = json!({ "error": error }).to_string();
            (StatusCode::BAD_REQUEST, JSON, body)
        }
    }
}

/// Does what is asked; answers what is told of it.
fn operate(control: &Control, operation: Operation) -> Result<Value, String> {
    match operation {
        Operation::App(spec) => control.add_app(spec),
        Operation::Template(of) => control.add_template(&of.appid, of.template),
        Operation::RemoveTemplate(of) => control.remove_template(&of.appid, &of.template_id),
        Operation::BanTemplate(of) => control.ban_template(&of.appid, &of.template_id, of.banned),
        Operation::User(of) => control.add_user(&of.appid, &of.openid),
        Operation::Grant(of) => control.grant(&of.appid, &of.openid, &of.template_id, of.credits),
        Operation::Refuse(of) => control.refuse(&of.appid, &of.openid, &of.template_id, of.refuses),
        Operation::Tap(tap) => control.tap(&tap),
        Operation::RejectLater(of) => control.reject_later(&of.appid, &of.openid, &of.template_id),
        Operation::SendElsewhere(of) => {
            let msgid = control.send_elsewhere(&of.appid, &of.openid, &of.template_id);
            return Ok(json!({ "ok": true, "msgid": msgid.map(|msgid| msgid.to_string()) }));
        }
        Operation::Script(rule) => control.script(rule),
        Operation::ClearScripts => control.clear_scripts(),
        Operation::StealToken(of) => control.steal_token(&of.appid),
        Operation::ExpireToken(of) => control.expire_token(&of.appid),
        Operation::Latency(latency) => control.set_latency(Duration::from_millis(latency.ms)),
        Operation::Capacity(of) => control.set_capacity(of.capacity),
        Operation::Quota(quota) => set_quota(control, &quota)?,
        Operation::Clock(by) => control.advance_clock(Duration::from_secs(by.advance_secs)),
        Operation::SensitiveWords(of) => control.set_sensitive_words(of.words),
        Operation::Callback(of) => set_callback(control, of)?,
        Operation::Popup(of) => control.push_popup(&of.appid, &of.openid, &of.pairs()),
        Operation::Change(of) => control.push_change(&of.appid, &of.openid, &of.pairs()),
        Operation::LoginCode(of) => {
            let code = control.issue_login_code(&of.appid, &of.openid);
            return Ok(json!({ "ok": true, "code": code }));
        }
        Operation::BlockLogin(of) => control.block_login(&of.appid, &of.openid, of.blocked),
        Operation::SubscribeDevice(of) => {
            control.subscribe_device(&of.appid, &of.openid, &of.template_id, &of.sn, &of.model_id);
        }
        Operation::CardType(of) => control.add_card_type(&of.appid, of.card_type),
        Operation::CardCode(of) => control.issue_card_code(&of.appid, of.code),
        Operation::CardFailure(of) => {
            control.push_card_failure(&of.appid, &of.notify_code, of.fail_ret, &of.fail_msg);
        }
        Operation::Punish(of) => {
            let functions = of.banned_functions.as_deref();
            control.push_punishment(&of.appid, of.event_type, &of.reason, functions);
        }
        Operation::Hold => control.hold(),
        Operation::Release => control.release(),
        Operation::Reset => control.reset(),
    }
    Ok(json!({ "ok": true }))
}

fn set_quota(control: &Control, quota: &Quota) -> Result<(), String> {
    let path = quota.path.as_deref().unwrap_or(SEND_PATH);
    if control.set_quota_of(&quota.appid, path, quota.daily, quota.per_minute) {
        Ok(())
    } else {
        Err(format!("path {path}: the fake has no such call"))
    }
}

fn set_callback(
    control: &Control,
    CallbackOf { appid, callback }: CallbackOf,
) -> Result<(), String> {
    callback.check()?;
    if !callback.is_on_loopback() {
        return Err(
            "url: must be on loopback (127.0.0.1, ::1, localhost); another is for --callback-url"
                .to_owned(),
        );
    }
    control.set_callback(&appid, Some(callback));
    Ok(())
}

async fn wait(control: &Control, query: &str) -> Result<(), WaitTimedOut> {
    let number = |name| server::query_value(query, name).and_then(|text| text.parse().ok());
    let (arrived, answered) = (
        number("arrived").unwrap_or(0),
        number("answered").unwrap_or(0),
    );
    let waited = Duration::from_millis(number("timeout_ms").unwrap_or(30_000));
    let both = control.wait_until(|c| c.sends_arrived >= arrived && c.sends_answered >= answered);
    tokio::time::timeout(waited, both).await.map_err(|_| {
        let counts = control.counts();
        if counts.sends_arrived < arrived {
            WaitTimedOut {
                wanted: arrived,
                seen: counts.sends_arrived,
                waited,
            }
        } else {
            WaitTimedOut {
                wanted: answered,
                seen: counts.sends_answered,
                waited,
            }
        }
    })
}

/// The control API in a few lines, for `--help`, the start-up text and `GET /_control/`.
pub(in crate::simulate) fn list() -> String {
    let mut list = String::from(
        "Control API (JSON; answers {\"ok\":true} or HTTP 400 {\"error\":\"…\"}):
  GET  /_control/ledger
       every call, credit and token
  GET  /_control/counts
       the totals alone
  GET  /_control/wait?arrived=N&answered=N&timeout_ms=N
       answers when as many sends arrived and were answered; 408 after the time-out (30 s)
",
    );
    for line in OPERATIONS {
        let request = format!("  POST {CONTROL_PREFIX}{} {}", line.name, line.example);
        // Writing to a string cannot fail.
        let _ = writeln!(list, "{}\n       {}", request.trim_end(), line.help);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list cannot show what is not taken.
    #[test]
    fn every_example_of_the_list_is_read_as_its_operation() {
        for line in OPERATIONS {
            let read = Operation::read(line.name, line.example.as_bytes());
            assert!(read.is_ok(), "{}: {read:?}", line.name);
        }
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_and_none_is_as_good_as_an_empty_one() {
        for body in ["[]", "1", "{", "\"reset\""] {
            let error = Operation::read("reset", body.as_bytes()).unwrap_err();
            assert!(error.starts_with("body: "), "{error}");
        }
        assert!(Operation::read("reset", b"").is_ok());
        assert!(Operation::read("reset", b"{}").is_ok());
        assert!(Operation::read("grant", b"").is_err());
    }
}
