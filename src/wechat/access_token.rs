//! The access token, and the call that fetches it.
//!
//! Start at [`AccessToken`].

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::answer::{self, optional_integer};
use super::{Exchange, Wechat, find_rid, presentable};

/// An access token and its generation: which replacement of the app's token it is. Cheap to clone; never printed.
#[derive(Clone)]
pub struct AccessToken {
    token: Arc<Token>,
    generation: i64,
}

struct Token {
    secret: SecretString,
    /// Addresses with the token in them, by host and path.
    addresses: Mutex<Vec<(usize, &'static str, Url)>>,
}

impl AccessToken {
    /// Wraps a token of a generation.
    pub fn new(token: SecretString, generation: i64) -> Self {
        Self {
            token: Arc::new(Token {
                secret: token,
                addresses: Mutex::default(),
            }),
            generation,
        }
    }

    /// Counts the replacements of the app's token; a refresh names the generation that failed.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    pub(crate) fn expose(&self) -> &str {
        self.token.secret.expose_secret()
    }

    /// The address of `path` on a host with this token as WeChat wants it. Made from `base` once, since every send needs it.
    pub(super) fn address(
        &self,
        host: usize,
        path: &'static str,
        base: impl FnOnce() -> Url,
    ) -> Url {
        let mut addresses = self
            .token
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = addresses
            .iter()
            .find(|known| known.0 == host && known.1 == path);
        if let Some((_, _, address)) = known {
            return address.clone();
        }
        let mut address = base();
        address
            .query_pairs_mut()
            .append_pair("access_token", self.expose());
        addresses.push((host, path, address.clone()));
        address
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AccessToken")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A token as WeChat gave it.
#[derive(Debug)]
pub struct FetchedToken {
    /// The token, up to 512 characters.
    pub token: SecretString,
    /// What is left of its life, at most two hours by WeChat's word.
    pub expires_in: Duration,
}

/// Why no token was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// WeChat refused. 40001 and 40125 mean a wrong secret, 40164 an address that is not on the app's list.
    #[error("WeChat refused an access token: errcode {errcode}{}", .errmsg.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// WeChat's errcode.
        errcode: i64,
        /// WeChat's words.
        errmsg: Option<String>,
        /// WeChat's request id.
        rid: Option<String>,
    },
    /// No connection came about on any host.
    #[error("no access token: WeChat cannot be reached: {reason}")]
    NotAsked {
        /// The failure in words.
        reason: String,
    },
    /// No readable reply, or none in time. Fetching again is safe: normal mode returns the same token.
    #[error("no access token: no readable answer from WeChat: {reason}")]
    NoReply {
        /// The failure in words.
        reason: String,
    },
}

#[derive(Serialize)]
struct StableTokenRequest<'a> {
    grant_type: &'a str,
    appid: &'a str,
    secret: &'a str,
    force_refresh: bool,
}

#[derive(Deserialize)]
struct StableTokenReply {
    access_token: Option<SecretString>,
    #[serde(default, deserialize_with = "optional_integer")]
    expires_in: Option<i64>,
    #[serde(default, deserialize_with = "optional_integer")]
    errcode: Option<i64>,
    errmsg: Option<String>,
}

/// A life above this is a mistake: WeChat documents 7200 s.
const LIFE_SECS_MAX: i64 = 86_400;

impl Wechat {
    /// Fetches the app's token with `stable_token`.
    ///
    /// In normal mode every caller gets the same token until 5 minutes before its end, so workers never invalidate
    /// each other's. `force` replaces it for everybody: 20 times a day, at least 30 s apart.
    ///
    /// # Errors
    ///
    /// [`FetchError`]; neither the secret nor a token is in it.
    ///
    /// Source: <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-access-token/getStableAccessToken.html>
    pub async fn fetch_access_token(
        &self,
        appid: &str,
        secret: &SecretString,
        force: bool,
    ) -> Result<FetchedToken, FetchError> {
        let request = StableTokenRequest {
            grant_type: "client_credential",
            appid,
            secret: secret.expose_secret(),
            force_refresh: force,
        };
        let body = serde_json::to_vec(&request).expect("texts always serialise into memory");
        match self
            .post("/cgi-bin/stable_token", None, Bytes::from(body))
            .await
            .0
        {
            Exchange::Answered { status, body, .. } => read_reply(status, &body, secret),
            Exchange::NotSent { reason } => Err(FetchError::NotAsked { reason }),
            Exchange::Lost { reason, .. } => Err(FetchError::NoReply { reason }),
        }
    }
}

fn read_reply(
    status: StatusCode,
    body: &[u8],
    secret: &SecretString,
) -> Result<FetchedToken, FetchError> {
    let no_reply = |reason: &str| FetchError::NoReply {
        reason: format!("{reason} (HTTP status {})", status.as_u16()),
    };
    let Some(reply) = answer::read::<StableTokenReply>(body) else {
        return Err(FetchError::NoReply {
            reason: answer::describe(status, body),
        });
    };
    if let Some(errcode) = reply.errcode.filter(|errcode| *errcode != 0) {
        let errmsg = reply.errmsg.unwrap_or_default();
        return Err(FetchError::Refused {
            errcode,
            rid: find_rid(&errmsg).map(Into::into),
            errmsg: (!errmsg.is_empty())
                .then(|| presentable(&errmsg, secret.expose_secret(), "[secret]")),
        });
    }
    match (reply.access_token, reply.expires_in) {
        (Some(token), Some(1..=LIFE_SECS_MAX)) if !is_plausible(&token) => {
            drop(token);
            Err(no_reply("the token is empty, too long or not of ASCII"))
        }
        (Some(token), Some(secs @ 1..=LIFE_SECS_MAX)) if status.is_success() => Ok(FetchedToken {
            token,
            expires_in: Duration::from_secs(secs.unsigned_abs()),
        }),
        (Some(_), _) => Err(no_reply("the token has no sensible life")),
        (None, _) => Err(no_reply("the reply holds no token")),
    }
}

fn is_plausible(token: &SecretString) -> bool {
    let token = token.expose_secret();
    (1..=2048).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<FetchedToken, FetchError> {
        let status = StatusCode::from_u16(status).unwrap();
        read_reply(status, body.as_bytes(), &SecretString::from("top-secret"))
    }

    #[test]
    fn a_token_comes_with_what_is_left_of_its_life() {
        let fetched = read(200, r#"{"access_token":"91_abc","expires_in":345}"#).unwrap();
        assert_eq!(fetched.token.expose_secret(), "91_abc");
        assert_eq!(fetched.expires_in, Duration::from_secs(345));
    }

    #[test]
    fn a_token_is_read_whatever_a_gateway_did_to_the_rest() {
        for body in [
            "\u{feff}{\"access_token\":\"91_abc\",\"expires_in\":345}",
            r#"{"access_token":"91_abc","expires_in":"345","errcode":"0"}"#,
            "{\"access_token\":\"91_abc\",\"expires_in\":345,\"errmsg\":\"o\nk\"}",
        ] {
            let fetched = read(200, body).unwrap();
            assert_eq!(fetched.token.expose_secret(), "91_abc", "{body}");
            assert_eq!(fetched.expires_in, Duration::from_secs(345), "{body}");
        }
        let refused = read(200, r#"{"errcode":"40125","errmsg":"invalid appsecret"}"#);
        assert!(matches!(
            refused,
            Err(FetchError::Refused { errcode: 40125, .. })
        ));
    }

    #[test]
    fn a_refusal_is_an_error_by_its_errcode_and_hides_the_secret() {
        let error = read(
            200,
            r#"{"errcode":40125,"errmsg":"invalid appsecret top-secret rid: 68e0a1b2-1c2d3e4f-00112233"}"#,
        )
        .unwrap_err();
        let FetchError::Refused {
            errcode: 40125,
            ref errmsg,
            ref rid,
        } = error
        else {
            panic!("{error:?}");
        };
        assert!(!errmsg.as_deref().unwrap().contains("top-secret"));
        assert_eq!(rid.as_deref(), Some("68e0a1b2-1c2d3e4f-00112233"));
    }

    #[test]
    fn what_is_not_a_token_is_no_token() {
        for (status, body) in [
            (200, ""),
            (200, "<html>"),
            (200, "{}"),
            (200, r#"{"access_token":"91_abc","expires_in":"soon"}"#),
            (200, r#"{"access_token":"","expires_in":7200}"#),
            (200, r#"{"access_token":"91_abc"}"#),
            (200, r#"{"access_token":"91_abc","expires_in":0}"#),
            (200, r#"{"access_token":"91_abc","expires_in":-1}"#),
            (200, r#"{"access_token":"91_abc","expires_in":99999999}"#),
            (502, r#"{"access_token":"91_abc","expires_in":7200}"#),
            (200, r#"{"access_token":"91_a"#),
        ] {
            let error = read(status, body).unwrap_err();
            assert!(
                matches!(error, FetchError::NoReply { .. }),
                "{status} {body}: {error:?}"
            );
            assert!(!format!("{error} {error:?}").contains("91_a"), "{error:?}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let token = AccessToken::new(SecretString::from("91_abc"), 7);
        assert!(!format!("{token:?}").contains("91_abc"));
        assert!(format!("{token:?}").contains('7'));
    }
}
