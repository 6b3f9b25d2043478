//! The client for WeChat's server API: one request, one [`Reply`], no SQL.
//!
//! A send has no idempotency key, so all that matters about a failure is whether WeChat may have taken the message:
//! [`Reply::NotSent`] only when no connection came about (name resolution, connect, TLS), [`Reply::PossiblySent`] for
//! everything else that is not a readable answer. The client never repeats a request that may have left: redirects,
//! proxies from the environment and the HTTP library's own retries are off.
//!
//! Start at [`Wechat::send`]. Tokens, secrets and openids appear in no error and no `Debug`.

pub mod access_token;
pub mod account;
mod answer;
pub mod callback;
pub mod card;
mod connections;
mod device;
pub mod errcode;
mod hosts;
pub mod login;
pub mod message;

use std::{fmt::Write as _, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, Request, StatusCode, Url,
    header::{self, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::{
    access_token::AccessToken,
    connections::{Connections, Place},
    hosts::Hosts,
};
use crate::failpoint;
use crate::notification::{ERRMSG_CHARS_MAX, Kind, Notification};

pub use self::{connections::Dispute, message::MessageError};

/// How to reach WeChat.
#[derive(Debug, Clone)]
pub struct WechatOptions {
    /// Base addresses in order of preference; `http` on loopback only.
    pub hosts: Vec<Url>,
    /// The URL of a forward proxy for https hosts, with its password if it wants one.
    pub proxy: Option<SecretString>,
    /// For name resolution, connect and TLS together; shorter than `request_timeout`.
    pub connect_timeout: Duration,
    /// For one request, from its beginning to the last byte of the reply, whichever hosts are tried.
    pub request_timeout: Duration,
    /// Replies above this are not read to their end.
    pub body_bytes_max: usize,
    /// Idle connections kept per host; about the number of sends in flight.
    pub idle_connections_max: usize,
}

impl Default for WechatOptions {
    fn default() -> Self {
        let host = |text| Url::parse(text).expect("a literal address is well formed");
        Self {
            hosts: vec![
                host("https://api.weixin.qq.com"),
                host("https://api2.weixin.qq.com"),
            ],
            proxy: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(10),
            body_bytes_max: 64 * 1024,
            idle_connections_max: 128,
        }
    }
}

/// Why a [`Wechat`] cannot be made of its options.
#[derive(Debug, thiserror::Error)]
pub enum WechatOptionsError {
    /// There is no host to send to.
    #[error("no WeChat host is set: name at least one, for example https://api.weixin.qq.com")]
    NoHost,
    /// Tokens would cross the network in the clear.
    #[error("WeChat host {host}: plain http is for loopback alone; use https")]
    Insecure {
        /// The host as set.
        host: String,
    },
    /// A user, query or fragment in a base address, or no host.
    #[error(
        "WeChat host {host}: give scheme, host, port and path only, for example https://api.weixin.qq.com"
    )]
    NotABase {
        /// The host as set, without what is wrong.
        host: String,
    },
    /// A connect time-out must be known to be one: it comes before the request's.
    #[error(
        "the connect time-out ({connect:?}) must be shorter than the request time-out ({request:?})"
    )]
    ConnectTimeout {
        /// As set.
        connect: Duration,
        /// As set.
        request: Duration,
    },
    /// The TLS library or the pool could not start.
    #[error("the HTTP client cannot start")]
    Client(#[source] reqwest::Error),
}

/// An HTTP client that goes to WeChat by `proxy` or directly: never by what the environment says, never twice.
///
/// # Errors
///
/// The proxy's address is no URL, or the TLS library does not start.
pub fn client_builder(proxy: Option<&SecretString>) -> reqwest::Result<reqwest::ClientBuilder> {
    let builder = reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    Ok(match proxy {
        Some(url) => builder.proxy(reqwest::Proxy::https(url.expose_secret())?),
        None => builder,
    })
}

/// What came of one request to WeChat's send API.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// WeChat answered; 0 is success.
    Answered {
        /// 0 or WeChat's reason.
        errcode: i64,
        /// WeChat's words, at most [`ERRMSG_CHARS_MAX`] characters, without openid.
        errmsg: Option<String>,
        /// WeChat's request id, from the errmsg.
        rid: Option<String>,
        /// The message's id, on success.
        msgid: Option<i64>,
        /// HTTP status.
        http_status: u16,
        /// From the request to the end of the reply.
        took: Duration,
    },
    /// No connection came about on any host: nothing was sent.
    NotSent {
        /// The failure in words.
        reason: String,
        /// From the request to the failure.
        took: Duration,
    },
    /// The request may have reached WeChat and no readable answer came back.
    PossiblySent {
        /// The failure in words.
        reason: String,
        /// HTTP status, if one came.
        http_status: Option<u16>,
        /// From the request to the failure.
        took: Duration,
    },
}

/// The client. Cheap to share behind an `Arc`; it holds the connections.
#[derive(Debug)]
pub struct Wechat {
    connections: Connections,
    hosts: Hosts,
    connect_timeout: Duration,
    request_timeout: Duration,
    body_bytes_max: usize,
}

const SEND_PATH: &str = "/cgi-bin/message/subscribe/send";
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

impl Wechat {
    /// Checks the options and sets up the connection pool; connects to nothing.
    ///
    /// # Errors
    ///
    /// [`WechatOptionsError`] names the option and the rule it breaks.
    pub fn new(options: &WechatOptions) -> Result<Self, WechatOptionsError> {
        if options.connect_timeout >= options.request_timeout {
            return Err(WechatOptionsError::ConnectTimeout {
                connect: options.connect_timeout,
                request: options.request_timeout,
            });
        }
        let hosts = Hosts::new(&options.hosts)?;
        let connections = Connections::new(options, !hosts.any_plain())?;
        Ok(Self {
            connections,
            hosts,
            connect_timeout: options.connect_timeout,
            request_timeout: options.request_timeout,
            body_bytes_max: options.body_bytes_max,
        })
    }

    /// Longest time one request may take.
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Sends one message of any kind and reads the answer; takes `request_timeout` at most.
    ///
    /// # Errors
    ///
    /// [`MessageError`] when the row's `data` cannot be made into a request; nothing was sent then. Every failure on
    /// the way is a [`Reply`].
    ///
    /// Source: <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html>
    pub async fn send(
        &self,
        token: &AccessToken,
        notification: &Notification,
    ) -> Result<Reply, MessageError> {
        let (path, body) = match notification.kind {
            Kind::OneTime | Kind::LongTerm => (SEND_PATH, message::body(notification)?),
            Kind::Device => (device::SEND_PATH, device::body(notification)?),
            Kind::ServiceCard => card::request(notification)?,
        };
        failpoint::pass("to", notification.openid.expose());
        let address = |host| token.address(host, path, || self.hosts.url(host, path));
        let body = Some(Bytes::from(body));
        let (exchange, took) = self
            .request(path, address, body, self.body_bytes_max, true)
            .await;
        Ok(match exchange {
            Exchange::Answered {
                status,
                body,
                place,
            } => {
                let reply = read_send_reply(status, &body, notification.openid.expose(), took);
                self.connections
                    .judge(reply, notification.id, place, Instant::now())
                    .await
            }
            Exchange::NotSent { reason } => Reply::NotSent { reason, took },
            Exchange::Lost { reason, status } => Reply::PossiblySent {
                reason,
                http_status: status.map(|status| status.as_u16()),
                took,
            },
        })
    }

    /// Whether an answer that a row was told came for another row since then: it is not known whose it is.
    pub fn is_disputed(&self, rid: Option<&str>, msgid: Option<i64>) -> bool {
        self.connections.is_disputed(rid, msgid)
    }

    /// The answers that came for two rows, since the last call.
    pub fn take_disputes(&self) -> Vec<Dispute> {
        self.connections.take_disputes()
    }

    /// Posts `body`; as [`Self::call`].
    async fn post(
        &self,
        path: &'static str,
        access_token: Option<&AccessToken>,
        body: Bytes,
    ) -> (Exchange<'_>, Duration) {
        self.call(path, access_token, Some(body), self.body_bytes_max)
            .await
    }

    /// Posts `body`, or gets without one, with the token; as [`Self::request`].
    async fn call(
        &self,
        path: &'static str,
        access_token: Option<&AccessToken>,
        body: Option<Bytes>,
        reply_bytes_max: usize,
    ) -> (Exchange<'_>, Duration) {
        let address = |host| match access_token {
            Some(token) => token.address(host, path, || self.hosts.url(host, path)),
            None => self.hosts.url(host, path),
        };
        self.request(path, address, body, reply_bytes_max, false)
            .await
    }

    /// Asks the first host that can be connected to: posts `body`, or gets without one.
    ///
    /// Another host is tried only after a failure that certainly sent nothing, and only while enough time is left to
    /// tell a connect time-out from a request time-out. The answer to a `send` alone may be that to another request;
    /// [`Connections::judge`] tells.
    async fn request(
        &self,
        path: &str,
        address: impl Fn(usize) -> Url,
        body: Option<Bytes>,
        reply_bytes_max: usize,
        send: bool,
    ) -> (Exchange<'_>, Duration) {
        let started_at = Instant::now();
        let mut host = self.hosts.current(started_at);
        for tried in 1.. {
            let url = address(host);
            let left = self.request_timeout.saturating_sub(started_at.elapsed());
            let reuse = send && self.connections.may_reuse(started_at);
            failpoint::pass("before", path);
            let exchange = self
                .exchange(url, body.clone(), left, reply_bytes_max, reuse)
                .await;
            failpoint::pass("after", path);
            let Exchange::NotSent { .. } = exchange else {
                return (exchange, started_at.elapsed());
            };
            let now = Instant::now();
            let next = self.hosts.failed(host, now);
            let left = self.request_timeout.saturating_sub(now - started_at);
            // Half as much again: the connect time-out must fire first.
            if tried >= self.hosts.len() || left < self.connect_timeout.mul_f32(1.5) {
                return (exchange, now - started_at);
            }
            host = next;
        }
        unreachable!("the loop over hosts ends by returning")
    }

    async fn exchange(
        &self,
        url: Url,
        body: Option<Bytes>,
        timeout: Duration,
        reply_bytes_max: usize,
        reuse: bool,
    ) -> Exchange<'_> {
        let mut request = Request::new(Method::GET, url);
        if let Some(body) = body {
            *request.method_mut() = Method::POST;
            request.headers_mut().insert(header::CONTENT_TYPE, JSON);
            *request.body_mut() = Some(body.into());
        }
        *request.timeout_mut() = Some(timeout);
        let (mut response, place) = match self.connections.execute(request, reuse).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                return Exchange::NotSent {
                    reason: describe(error, "no connection"),
                };
            }
            Err(error) => {
                return Exchange::Lost {
                    reason: describe(error, "no reply"),
                    status: None,
                };
            }
        };
        let status = response.status();
        let mut body = Bytes::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > reply_bytes_max => {
                    let reason = format!("the reply is longer than {reply_bytes_max} bytes");
                    return Exchange::Lost {
                        reason,
                        status: Some(status),
                    };
                }
                // Nearly always the only one.
                Ok(Some(chunk)) if body.is_empty() => body = chunk,
                Ok(Some(chunk)) => {
                    let mut longer = BytesMut::from(body);
                    longer.extend_from_slice(&chunk);
                    body = longer.freeze();
                }
                Ok(None) => {
                    return Exchange::Answered {
                        status,
                        body,
                        place,
                    };
                }
                Err(error) => {
                    return Exchange::Lost {
                        reason: describe(error, "the reply broke off"),
                        status: Some(status),
                    };
                }
            }
        }
    }
}

/// One HTTP request, before its body is understood.
enum Exchange<'a> {
    Answered {
        status: StatusCode,
        body: Bytes,
        /// Where it stands among the answers on its connection, if other requests may use that, too.
        place: Option<Place<'a>>,
    },
    NotSent {
        reason: String,
    },
    Lost {
        reason: String,
        status: Option<StatusCode>,
    },
}

/// The failure and its causes in words, without the URL: its query holds the token.
fn describe(error: reqwest::Error, what: &str) -> String {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let mut words = format!("{what}{}", if timed_out { " in time" } else { "" });
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let _ = write!(words, ": {cause}");
        source = cause.source();
    }
    words
}

/// The parts of a reply that matter, each as WeChat wrote it: a field of an unexpected type must not hide the others.
#[derive(Deserialize)]
struct SendReply<'a> {
    #[serde(borrow)]
    errcode: Option<&'a RawValue>,
    #[serde(borrow)]
    errmsg: Option<&'a RawValue>,
    #[serde(borrow)]
    msgid: Option<&'a RawValue>,
}

fn read_send_reply(status: StatusCode, body: &[u8], openid: &str, took: Duration) -> Reply {
    let read = if !status.is_success() && !status.is_client_error() {
        Err(format!("HTTP status {}", status.as_u16()))
    } else {
        answer::readings(body)
            .find_map(|text| {
                let reply = serde_json::from_slice::<SendReply<'_>>(&text).ok()?;
                Some(read_parts(status, &reply, openid, took))
            })
            .unwrap_or_else(|| Err(answer::describe(status, body)))
    };
    read.unwrap_or_else(|reason| Reply::PossiblySent {
        reason,
        http_status: Some(status.as_u16()),
        took,
    })
}

/// The answer, or why it says nothing certain.
fn read_parts(
    status: StatusCode,
    reply: &SendReply<'_>,
    openid: &str,
    took: Duration,
) -> Result<Reply, String> {
    // An integer above 2^53.
    let msgid = reply.msgid.and_then(answer::integer);
    let errcode = match (reply.errcode.map(answer::integer), msgid) {
        (Some(Some(errcode)), _) => errcode,
        (None, Some(_)) => 0,
        (Some(None), _) => return Err("the errcode is not a 64-bit integer".into()),
        (None, None) => return Err("neither errcode nor msgid in the reply".into()),
    };
    if errcode == 0 && !status.is_success() {
        return Err(format!("errcode 0 with HTTP status {}", status.as_u16()));
    }
    let errmsg = reply
        .errmsg
        .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
        .filter(|_| errcode != 0);
    Ok(Reply::Answered {
        errcode,
        rid: errmsg.as_deref().and_then(find_rid).map(Into::into),
        errmsg: errmsg.map(|errmsg| presentable(&errmsg, openid, "[openid]")),
        msgid,
        http_status: status.as_u16(),
        took,
    })
}

/// The errmsg as it may be kept: no NUL (Postgres refuses it), `shown` for what must not be shown, not endless.
fn presentable(errmsg: &str, secret: &str, shown: &str) -> String {
    // Replaced before anything is cut off, or the beginning of a secret could stay.
    let errmsg = if secret.is_empty() {
        errmsg.to_owned()
    } else {
        errmsg.replace(secret, shown)
    };
    errmsg
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(ERRMSG_CHARS_MAX)
        .collect()
}

/// The request id in an errmsg: `… rid: 68e0a1b2-1c2d3e4f-00112233`, the space may be missing.
fn find_rid(errmsg: &str) -> Option<&str> {
    const RID_BYTES: usize = 26;
    errmsg.match_indices("rid:").find_map(|(at, marker)| {
        let rid = errmsg[at + marker.len()..].trim_start().get(..RID_BYTES)?;
        let mut groups = rid.split('-');
        let well_formed = groups.by_ref().take(3).all(|group| {
            group.len() == 8
                && group
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        (well_formed && groups.next().is_none()).then_some(rid)
    })
}
