//! The JSON replies: errmsg texts as WeChat words them, and the rid at their end.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rand::RngExt;
use rand::rngs::StdRng;

/// What the fake made of a call.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub errcode: i64,
    pub body: Bytes,
    /// Set for an accepted message.
    pub msgid: Option<i64>,
    /// The message counts as sent; only plain ones have a msgid.
    pub accepted: bool,
    pub credit_taken: bool,
}

impl Reply {
    /// A success with this body.
    pub fn ok(body: String) -> Self {
        Reply {
            errcode: 0,
            body: body.into(),
            msgid: None,
            accepted: false,
            credit_taken: false,
        }
    }

    /// An accepted message.
    pub fn accepted(msgid: i64, credit_taken: bool) -> Self {
        let body = format!(r#"{{"errcode":0,"errmsg":"ok","msgid":{msgid}}}"#);
        Reply {
            msgid: Some(msgid),
            accepted: true,
            credit_taken,
            ..Reply::ok(body)
        }
    }

    /// An accepted message of a kind that has no msgid and takes no credit.
    pub fn accepted_without_msgid() -> Self {
        Reply {
            accepted: true,
            ..Reply::ok(r#"{"errcode":0,"errmsg":"ok"}"#.to_owned())
        }
    }

    /// A refusal; the rid is appended to `text`.
    pub fn refused(errcode: i64, text: &str, rid: &str) -> Self {
        let errmsg = serde_json::Value::String(format!("{text} rid: {rid}"));
        let body = format!(r#"{{"errcode":{errcode},"errmsg":{errmsg}}}"#);
        Reply {
            errcode,
            ..Reply::ok(body)
        }
    }
}

/// A refusal on its way: the errcode and the text before the rid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub errcode: i64,
    pub text: String,
}

impl Refusal {
    /// With WeChat's usual text for the errcode.
    pub fn new(errcode: i64) -> Self {
        Refusal {
            errcode,
            text: usual_text(errcode).to_owned(),
        }
    }

    pub fn with_text(errcode: i64, text: impl Into<String>) -> Self {
        Refusal {
            errcode,
            text: text.into(),
        }
    }
}

/// `hex(unix time)-rand32-rand32`.
pub(super) fn mint_rid(now: DateTime<Utc>, rng: &mut StdRng) -> String {
    let (middle, end): (u32, u32) = (rng.random(), rng.random());
    format!("{:08x}-{middle:08x}-{end:08x}", now.timestamp())
}

/// The text before the rid.
fn usual_text(errcode: i64) -> &'static str {
    match errcode {
        -1 => "system error",
        0 => "ok",
        20002 => "invalid args",
        40001 => {
            "invalid credential, access_token is invalid or not latest, could get access_token by \
             getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"
        }
        40002 => "invalid grant_type",
        40003 => "invalid openid",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40029 => "invalid code",
        40032 => "invalid openid list size",
        40037 => "invalid template_id",
        40066 => "invalid url",
        40125 => "invalid appsecret",
        40163 => "code been used",
        40226 => "code blocked",
        40243 => "AppSecret is frozen, please unfreeze it and try again",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        41008 => "missing code",
        41030 => "invalid page",
        42001 => "access_token expired",
        43001 => "require GET method",
        43002 => "require POST method",
        43101 => "user refuse to accept the msg",
        43107 => "subscribe message ability is banned",
        43108 => "Cannot make concurrent calls to the same OpenID, please try again",
        44002 => "empty post data",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        45168 => "content hits a blacklisted keyword",
        47001 => "data format error",
        47003 => "argument invalid!",
        48001 => "api unauthorized",
        48006 => "forbid to clear quota because of reaching the limit",
        61007 => "api is unauthorized to component",
        76001 => "rid not found",
        76002 => "invalid rid",
        76003 => "rid belongs to another account",
        76004 => "rid is too old",
        76021 => "cgi_path not found",
        85433 => "invalid check_json",
        85434 => "invalid notify_type",
        85435 => "invalid content_json",
        85436 => "notify_code is blocked",
        85437 => "notify_code does not exist",
        85438 => "notify_code expired",
        85439 => "invalid status",
        85440 => "content_json lacks a field",
        85441 => "invalid field format in content_json",
        85442 => "content does not pass the audit",
        85448 => "already pushed",
        85449 => "notify_code is locked",
        85470 => "invalid ext_json",
        9800001 => "sn is too long",
        9800002 => "invalid sn",
        9800003 => "invalid model_id",
        9800006 => "model_id and sn do not match the subscription",
        200_012 => "private template count exceeds the limit",
        200_014 => "invalid tid",
        200_020 => "invalid kid list",
        200_021 => "invalid scene desc",
        200_022 => "template with the same title and keywords exists",
        89503 => "this call requires the administrator's confirmation, please wait",
        _ => "simulated error",
    }
}
