//! What really happened: every call the fake received, every credit it took, every token it minted.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::api::Api;
use super::tap::Why43101;

/// The truth to compare a worker's belief with. Times are those of the fake's own clock.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Every call in order of arrival; empty under [`LedgerDetail::Counts`](super::LedgerDetail::Counts).
    pub calls: Vec<Call>,
    /// Totals.
    pub counts: Counts,
    /// One entry for each (appid, openid, template_id) that was granted, refused or sent to.
    pub pairs: Vec<PairSum>,
    /// Every token ever minted, oldest first.
    pub tokens: Vec<TokenRecord>,
}

/// Totals since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Calls of every path that arrived.
    pub calls: u64,
    /// Sends that arrived.
    pub sends_arrived: u64,
    /// Sends the fake has finished with: answered, or its fault played (a hang never ends, but
    /// counts once it is certain to hang).
    pub sends_answered: u64,
    /// Sends accepted (the message counts as sent), whether or not the reply reached anybody.
    pub sends_accepted: u64,
    /// Sends accepted whose reply was withheld, cut or replaced by a fault, or whose caller had gone.
    pub replies_lost: u64,
    /// Token requests of both kinds that arrived.
    pub token_calls: u64,
    /// How often each errcode was the judgement on a call, 0 included.
    pub errcodes: BTreeMap<i64, u64>,
    /// Requests to callback URLs, repeats included.
    #[serde(default)]
    pub callback_tries: u64,
    /// Events whose push was answered with `success`.
    #[serde(default)]
    pub callbacks_answered: u64,
    /// Events that were tried three times in vain.
    #[serde(default)]
    pub callbacks_given_up: u64,
}

/// One call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Order of arrival over all paths, from 1.
    pub sequence: u64,
    /// The path, without the query.
    pub path: String,
    /// Whose call it was, known from the token or the token request; empty if unknown.
    pub appid: String,
    /// The receiver of a send (of any kind), else empty.
    pub openid: String,
    /// The template of a send, or a service card's notify_type; else empty.
    pub template_id: String,
    /// The `Host` it was sent to, with the port: tells callers apart that use different addresses of the fake.
    #[serde(default)]
    pub host: String,
    /// When the whole request had arrived.
    pub arrived_at: DateTime<Utc>,
    /// When the reply was handed to the connection, or the connection was reset.
    pub answered_at: Option<DateTime<Utc>>,
    /// The errcode of the reply. Under a fault that hides the reply: what the hidden reply said,
    /// absent when the fault struck before the call was judged.
    pub errcode: Option<i64>,
    /// The fault played on this call.
    pub fault: Option<String>,
    /// The id of the accepted message, whether or not the reply was delivered.
    pub msgid: Option<i64>,
    /// Whether the message was accepted.
    pub accepted: bool,
    /// Whether a credit was taken (long-term templates and unlimited pairs have none to take).
    pub credit_taken: bool,
    /// Whether the true reply, whole and unaltered, was handed to a connection that was still open.
    pub reply_delivered: bool,
    /// Whether another call for the same openid was in flight when this one arrived.
    pub concurrent: bool,
    /// Why a send was judged 43101.
    #[serde(default)]
    pub why_43101: Option<Why43101>,
    /// The `data` member of a send as received.
    pub data: Option<Box<RawValue>>,
}

impl Call {
    /// Whether this is a message to a user: a `subscribe/send`, a `device/subscribe/send` or an update of a service card.
    pub fn is_send(&self) -> bool {
        Api::from_path(&self.path).is_some_and(Api::is_message)
    }

    /// The value of `key` in the send's data.
    pub fn value(&self, key: &str) -> Option<String> {
        let data: serde_json::Value = serde_json::from_str(self.data.as_ref()?.get()).ok()?;
        Some(data.get(key)?.get("value")?.as_str()?.to_owned())
    }
}

/// What became of one (appid, openid, template_id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairSum {
    /// The app.
    pub appid: String,
    /// The user.
    pub openid: String,
    /// The template.
    pub template_id: String,
    /// Credits granted so far.
    pub granted: u64,
    /// Credits left; absent: unlimited.
    pub remaining: Option<u64>,
    /// Whether the user refuses the template.
    pub refuses: bool,
    /// Sends that arrived.
    pub arrived: u64,
    /// Sends accepted.
    pub accepted: u64,
    /// Credits taken.
    pub credits_taken: u64,
    /// Messages accepted from another system; they are among `accepted`.
    #[serde(default)]
    pub sent_elsewhere: u64,
}

/// One minted token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The app.
    pub appid: String,
    /// Which of the two families it belongs to.
    pub family: TokenFamily,
    /// The token itself.
    pub access_token: String,
    /// When it was minted.
    pub minted_at: DateTime<Utc>,
    /// When it expires of old age (then: 42001).
    pub expires_at: DateTime<Utc>,
    /// When it stops working because another replaced it (then: 40001).
    pub replaced_at: Option<DateTime<Utc>>,
}

/// The two isolated kinds of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenFamily {
    /// From `GET /cgi-bin/token`.
    Plain,
    /// From `POST /cgi-bin/stable_token`.
    Stable,
}

impl Ledger {
    /// The sends, in order of arrival.
    pub fn sends(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| call.is_send())
    }

    /// The sends to one user, in order of arrival.
    pub fn sends_to<'a>(&'a self, openid: &'a str) -> impl Iterator<Item = &'a Call> {
        self.sends().filter(move |call| call.openid == openid)
    }

    /// The sum of one pair, if it was ever granted, refused or sent to.
    pub fn pair(&self, appid: &str, openid: &str, template_id: &str) -> Option<&PairSum> {
        self.pairs.iter().find(|pair| {
            pair.appid == appid && pair.openid == openid && pair.template_id == template_id
        })
    }
}
