//! `wxnotify rid`: what WeChat saw of a failed call. WeChat's record holds the token, the receiver and the text of the
//! message: only what is known to be harmless is shown, unless the operator asks for the rest.
//!
//! Start at [`run`].

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{OperateError, Operator, audit, unanswered};
use crate::exit::Exit;
use crate::lookups::LookupError;
use crate::operate::report::Report;
use crate::store::status::RidOrigin;
use crate::wechat::account::{AccountError, RecalledCall, is_rid};

/// `wxnotify rid`
#[derive(Debug, Args)]
pub struct RidArgs {
    /// The rid at the end of WeChat's errmsg, such as 68e0a1b2-1c2d3e4f-00112233
    pub rid: String,
    /// The mini-program of the call; without it the recorded attempts are looked through
    #[arg(long)]
    pub appid: Option<String>,
    /// Show the access token, openids and texts too; written down in operator_actions
    #[arg(long)]
    pub reveal: bool,
    /// Your reason, kept in operator_actions
    #[arg(long)]
    pub note: Option<String>,
}

pub(super) async fn run(args: RidArgs, operator: &Operator<'_>) -> anyhow::Result<Report> {
    let rid = args.rid.trim();
    if !is_rid(rid) {
        return Err(OperateError::usage(
            "that is no rid: it has three groups of eight hex digits",
            "copy what stands behind \"rid:\" in the errmsg, or in the column rid of notification_attempts",
        )
        .into());
    }
    // A rid begins with the time of its call.
    let called_at = i64::from_str_radix(&rid[..8], 16)?;
    let origin = operator.store.find_rid(rid, called_at).await?;
    let appid = choose_app(&args, origin.as_ref(), operator)?;
    let lookups = operator.need_lookups(&appid)?;
    let call = lookups
        .recall(&appid, rid)
        .await
        .map_err(|error| not_recalled(&appid, rid, &error))?;
    if args.reveal {
        let filter = json!({ "appid": appid, "rid": rid });
        operator
            .store
            .record_action("reveal_rid", &filter, &audit(args.note))
            .await?;
    }
    Ok(show(&appid, rid, origin.as_ref(), &call, args.reveal))
}

/// The app that was named, that made the call, or that is the only one whose secret is here.
fn choose_app(
    args: &RidArgs,
    origin: Option<&RidOrigin>,
    operator: &Operator<'_>,
) -> anyhow::Result<String> {
    if let Some(appid) = args
        .appid
        .clone()
        .or(origin.map(|origin| origin.appid.clone()))
    {
        return Ok(appid);
    }
    let mut apps = operator
        .settings
        .into_iter()
        .flat_map(|settings| &settings.apps)
        .filter(|(_, app)| app.secret.is_some());
    match (apps.next(), apps.next()) {
        (Some((appid, _)), None) => Ok(appid.clone()),
        _ => Err(OperateError::usage(
            "no recorded attempt has this rid, so its app is not known",
            "name it with --appid",
        )
        .into()),
    }
}

fn not_recalled(appid: &str, rid: &str, error: &LookupError) -> anyhow::Error {
    let LookupError::Account(AccountError::Refused { errcode, .. }) = error else {
        return unanswered(appid, error);
    };
    let (what, next) = match errcode {
        76001 => (
            "WeChat knows no such rid",
            "check that it was copied whole; some refusals are not recorded",
        ),
        76002 => (
            "WeChat takes it for malformed",
            "copy it again from the errmsg",
        ),
        76003 => (
            "the call was made by another mini-program",
            "name the right one with --appid",
        ),
        76004 => (
            "it is older than the 7 days that WeChat keeps",
            "look at the attempt here: `wxnotify explain ID`",
        ),
        _ => return unanswered(appid, error),
    };
    OperateError::new(
        Exit::Failed,
        format!("rid {rid} of app {appid}: {what} (errcode {errcode})"),
        next,
    )
    .into()
}

fn show(
    appid: &str,
    rid: &str,
    origin: Option<&RidOrigin>,
    call: &RecalledCall,
    reveal: bool,
) -> Report {
    let shown = if reveal {
        Shown {
            url: call.request_url.clone(),
            request: as_json_or_text(&call.request_body),
            response: as_json_or_text(&call.response_body),
        }
    } else {
        redact(call)
    };
    let at = DateTime::<Utc>::from_timestamp(call.invoke_time, 0);
    let mut report = Report::new(json!({
        "appid": appid, "rid": rid, "attempt": origin, "revealed": reveal, "called_at": at, "cost_in_ms": call.cost_in_ms,
        "client_ip": call.client_ip, "request_url": shown.url, "request": shown.request, "response": shown.response,
    }));
    if let Some(origin) = origin {
        report.line(format!(
            "Attempt {} of notification {} of app {appid}.",
            origin.attempt, origin.notification_id
        ));
    }
    let at = at.map_or("-".to_owned(), |at| {
        at.format("%Y-%m-%d %H:%M:%SZ").to_string()
    });
    report
        .line(format!(
            "WeChat received it at {at} from {} and took {} ms.",
            call.client_ip, call.cost_in_ms
        ))
        .line(format!("url       {}", shown.url))
        .line(format!("request   {}", shown.request))
        .line(format!("response  {}", shown.response));
    if reveal {
        report.next("this shows a token and a user's data: keep it to yourself");
    } else {
        report.next("tokens, openids and texts are hidden; `--reveal` shows them");
    }
    report
}

/// A recorded call as it may be shown.
struct Shown {
    url: String,
    request: Value,
    response: Value,
}

fn as_json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// Members whose values say nothing about a user. What is not listed is hidden: WeChat may add members.
const HARMLESS: [&str; 12] = [
    "appid",
    "cgi_path",
    "errcode",
    "errmsg",
    "force_refresh",
    "grant_type",
    "lang",
    "miniprogram_state",
    "msgid",
    "priTmplId",
    "rid",
    "template_id",
];

fn redact(call: &RecalledCall) -> Shown {
    let mut hidden = Vec::new();
    let url = redact_url(&call.request_url, &mut hidden);
    let request = redact_text(&call.request_body, &mut hidden);
    let response = redact_text(&call.response_body, &mut hidden);
    // An errmsg may repeat what the request held.
    hidden.retain(|secret| secret.chars().count() >= 2);
    hidden.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let clean = |value| clear_errmsg(value, &hidden);
    Shown {
        url,
        request: clean(request),
        response: clean(response),
    }
}

/// The path, and of the query the names and what is harmless.
fn redact_url(url: &str, hidden: &mut Vec<String>) -> String {
    let Some((path, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let pairs = form_urlencoded::parse(query.as_bytes()).map(|(name, value)| {
        if HARMLESS.contains(&&*name) {
            format!("{name}={value}")
        } else {
            hidden.push(value.into_owned());
            format!("{name}=[hidden]")
        }
    });
    let pairs: Vec<String> = pairs.collect();
    format!("{path}?{}", pairs.join("&"))
}

fn redact_text(text: &str, hidden: &mut Vec<String>) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => redact_value("", value, false, hidden),
        _ if text.is_empty() => Value::Null,
        _ => format!("[{} bytes that are not a JSON object]", text.len()).into(),
    }
}

fn redact_value(name: &str, value: Value, in_data: bool, hidden: &mut Vec<String>) -> Value {
    let harmless = !in_data && HARMLESS.contains(&name);
    match value {
        Value::Object(members) => {
            let mut shown = Map::new();
            for (name, value) in members {
                let in_data = in_data || name == "data";
                let value = redact_value(&name, value, in_data, hidden);
                shown.insert(redact_name(name, hidden), value);
            }
            Value::Object(shown)
        }
        Value::Array(values) => values
            .into_iter()
            .map(|value| redact_value(name, value, in_data, hidden))
            .collect(),
        Value::String(text) if name == "page" && !in_data => redact_url(&text, hidden).into(),
        Value::Null | Value::Bool(_) => value,
        value if harmless => value,
        Value::String(text) => {
            let shown = format!("[{} characters]", text.chars().count());
            hidden.push(text);
            shown.into()
        }
        Value::Number(number) => {
            hidden.push(number.to_string());
            "[number]".into()
        }
    }
}

/// Names of members are WeChat's or a template's; anything else may be data.
fn redact_name(name: String, hidden: &mut Vec<String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.len() <= 40 && name.chars().all(plain) {
        return name;
    }
    hidden.push(name);
    "[name]".to_owned()
}

fn clear_errmsg(mut value: Value, hidden: &[String]) -> Value {
    if let Some(Value::String(errmsg)) = value.get_mut("errmsg") {
        *errmsg = hidden
            .iter()
            .fold(std::mem::take(errmsg), |errmsg, secret| {
                errmsg.replace(secret.as_str(), "[hidden]")
            });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "91_secretTOKEN";
    const OPENID: &str = "oSecretOpenid0000000000000001";
    const TEXT: &str = "private words";

    fn call() -> RecalledCall {
        RecalledCall {
            invoke_time: 1_763_823_690,
            cost_in_ms: 12,
            request_url: format!("/cgi-bin/message/subscribe/send?access_token={TOKEN}&secret={TEXT}&appid=wx1"),
            request_body: json!({
                "touser": OPENID, "template_id": "T1", "page": format!("pages/order?id={TEXT}"), "lang": "zh_CN",
                "to_openid_list": [OPENID], "phone": 13_800_138_000_i64,
                "data": {"thing2": {"value": TEXT}, "errmsg": {"value": TEXT}, format!("x {TEXT}"): {"value": 1}},
            })
            .to_string(),
            response_body: json!({
                "errcode": 47003, "errmsg": format!("argument invalid! {TEXT} of {OPENID} rid: 68e0a1b2-1c2d3e4f-00112233"),
                "access_token": TOKEN,
            })
            .to_string(),
            client_ip: "203.0.113.7".to_owned(),
        }
    }

    fn all(shown: &Shown) -> String {
        format!("{} {} {}", shown.url, shown.request, shown.response)
    }

    #[test]
    fn no_token_openid_or_text_is_shown() {
        let shown = all(&redact(&call()));
        for secret in [TOKEN, OPENID, TEXT, "13800138000"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn what_explains_the_failure_is_shown() {
        let shown = redact(&call());
        assert_eq!(
            shown.url,
            "/cgi-bin/message/subscribe/send?access_token=[hidden]&secret=[hidden]&appid=wx1"
        );
        assert_eq!(shown.request["template_id"], "T1");
        assert_eq!(shown.request["page"], "pages/order?id=[hidden]");
        assert_eq!(shown.request["data"]["thing2"]["value"], "[13 characters]");
        assert_eq!(shown.response["errcode"], 47003);
        let errmsg = shown.response["errmsg"].as_str().unwrap();
        assert!(
            errmsg.starts_with("argument invalid! [hidden] of [hidden]"),
            "{errmsg}"
        );
    }

    #[test]
    fn a_body_that_is_not_understood_is_hidden_whole() {
        for body in [TEXT, "<xml>", "\"private words\"", "{\"touser\":\"o"] {
            let call = RecalledCall {
                request_body: body.to_owned(),
                response_body: body.to_owned(),
                ..call()
            };
            let shown = all(&redact(&call));
            assert!(!shown.contains(body), "{shown}");
        }
    }
}
