//! The exchange of a login code for the user's openid.

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::answer::{self, optional_integer};
use super::{Exchange, Wechat, find_rid, presentable};
use crate::notification::Openid;

/// Where login codes are exchanged.
const LOGIN_PATH: &str = "/sns/jscode2session";

/// What came of one exchange.
#[derive(Debug, PartialEq)]
pub enum LoginReply {
    /// The user behind the code, which is used up now.
    Receiver(Openid),
    /// WeChat refused; 0 never stands here.
    Refused {
        /// WeChat's errcode.
        errcode: i64,
        /// WeChat's words, without the code.
        errmsg: Option<String>,
        /// WeChat's request id.
        rid: Option<String>,
    },
    /// No connection came about on any host: the code is unused.
    NotSent {
        /// The failure in words.
        reason: String,
    },
    /// No readable answer: the code may be used up.
    Lost {
        /// The failure in words.
        reason: String,
    },
}

/// The reply as far as it is wanted: the `session_key` and the `unionid` beside it are not even read.
#[derive(Deserialize)]
struct CodeReply {
    openid: Option<String>,
    #[serde(default, deserialize_with = "optional_integer")]
    errcode: Option<i64>,
    errmsg: Option<String>,
}

/// Longest openid that is taken for one.
const OPENID_CHARS_MAX: usize = 128;

impl Wechat {
    /// Exchanges a code of `wx.login`; it works once.
    ///
    /// Source: <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/user-login/code2Session.html>
    pub async fn exchange_login_code(
        &self,
        appid: &str,
        secret: &SecretString,
        code: &SecretString,
    ) -> LoginReply {
        let query = [
            ("appid", appid),
            ("secret", secret.expose_secret()),
            ("js_code", code.expose_secret()),
            ("grant_type", "authorization_code"),
        ];
        let address = |host| {
            let mut url = self.hosts.url(host, LOGIN_PATH);
            url.query_pairs_mut().extend_pairs(&query);
            url
        };
        match self
            .request(LOGIN_PATH, address, None, self.body_bytes_max, false)
            .await
            .0
        {
            Exchange::Answered { status, body, .. } => read_reply(status, &body, code),
            Exchange::NotSent { reason } => LoginReply::NotSent { reason },
            Exchange::Lost { reason, .. } => LoginReply::Lost { reason },
        }
    }
}

fn read_reply(status: StatusCode, body: &[u8], code: &SecretString) -> LoginReply {
    let lost = |what: &str| LoginReply::Lost {
        reason: format!("{what} (HTTP status {})", status.as_u16()),
    };
    if !status.is_success() && !status.is_client_error() {
        return lost("no answer of WeChat's");
    }
    let Some(reply) = answer::read::<CodeReply>(body) else {
        return LoginReply::Lost {
            reason: answer::describe(status, body),
        };
    };
    if let Some(errcode) = reply.errcode.filter(|errcode| *errcode != 0) {
        let errmsg = reply.errmsg.unwrap_or_default();
        return LoginReply::Refused {
            errcode,
            rid: find_rid(&errmsg).map(Into::into),
            errmsg: (!errmsg.is_empty())
                .then(|| presentable(&errmsg, code.expose_secret(), "[code]")),
        };
    }
    match reply.openid {
        Some(openid) if status.is_success() && is_plausible(&openid) => {
            LoginReply::Receiver(Openid::new(openid))
        }
        Some(_) => lost("the openid of the reply is none"),
        None => lost("the reply holds no openid"),
    }
}

fn is_plausible(openid: &str) -> bool {
    (1..=OPENID_CHARS_MAX).contains(&openid.len())
        && openid.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> LoginReply {
        let status = StatusCode::from_u16(status).unwrap();
        read_reply(status, body.as_bytes(), &SecretString::from("0aSecretCode"))
    }

    #[test]
    fn only_the_openid_is_read() {
        let reply = read(
            200,
            r#"{"openid":"oUser","session_key":"dGhp","unionid":"oUnion"}"#,
        );
        assert_eq!(reply, LoginReply::Receiver(Openid::new("oUser")));
        assert_eq!(format!("{reply:?}"), "Receiver([openid])");
    }

    #[test]
    fn a_refusal_is_kept_without_the_code() {
        let reply = read(
            200,
            r#"{"errcode":40029,"errmsg":"invalid code 0aSecretCode, rid: 68e0a1b2-1c2d3e4f-00112233"}"#,
        );
        let shown = format!("{reply:?}");
        assert!(!shown.contains("0aSecretCode"), "{shown}");
        let LoginReply::Refused { errcode, rid, .. } = reply else {
            panic!("{shown}");
        };
        assert_eq!(errcode, 40029);
        assert_eq!(rid.as_deref(), Some("68e0a1b2-1c2d3e4f-00112233"));
    }

    #[test]
    fn an_openid_or_a_refusal_is_read_whatever_a_gateway_did_to_the_rest() {
        let reply = read(
            200,
            "\u{feff}{\"openid\":\"oUser\",\"errcode\":\"0\",\"errmsg\":\"\n\"}",
        );
        assert_eq!(reply, LoginReply::Receiver(Openid::new("oUser")));
        let reply = read(200, r#"{"errcode":"40029","errmsg":"invalid code"}"#);
        assert!(matches!(reply, LoginReply::Refused { errcode: 40029, .. }));
    }

    #[test]
    fn what_names_nobody_leaves_it_open_whether_the_code_was_used() {
        for (status, body) in [
            (200, ""),
            (200, "<html>"),
            (200, "{}"),
            (200, r#"{"errcode":0}"#),
            (200, r#"{"openid":""}"#),
            (200, r#"{"openid":"o user"}"#),
            (200, r#"{"openid":12}"#),
            (404, r#"{"openid":"oUser"}"#),
            (502, r#"{"openid":"oUser"}"#),
            (502, r#"{"errcode":40029,"errmsg":"x"}"#),
        ] {
            let reply = read(status, body);
            assert!(matches!(reply, LoginReply::Lost { .. }), "{status} {body}");
            assert!(!format!("{reply:?}").contains("oUser"), "{reply:?}");
        }
    }
}
