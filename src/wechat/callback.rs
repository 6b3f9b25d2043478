//! What WeChat pushes to the callback URL, from a request to an event: pure, no I/O and no SQL.
//!
//! The signature is checked before anything of the body is believed. In *safe* and *compatible* mode the event is what
//! `Encrypt` holds, and plaintext beside it is ignored; with an EncodingAESKey set nothing unencrypted is taken, or an
//! attacker could simply leave the encryption out. In *plaintext* mode WeChat signs only the query: whoever sees one
//! request can send another body for as long as its `timestamp` is fresh, so use safe mode.
//!
//! An event is one JSON object whichever format it came in, see [`document`]. Start at [`Receiver::read`].

pub mod cipher;
pub mod document;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use self::cipher::AesKey;
use self::document::DocumentError;

/// Longest body that is read, in bytes; events are a few hundred.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How far a request's `timestamp` may be from our clock, and an event's `CreateTime` ahead of it, in seconds. WeChat's own
/// repeats come within a minute.
pub const TIMESTAMP_SKEW_SECS_MAX: i64 = 600;

/// The events that are stored; others are acknowledged and forgotten, for they are none of a queue's business (chat
/// messages, for example).
pub const STORED_EVENTS: [&str; 5] = [
    "subscribe_msg_sent_event",
    "subscribe_msg_popup_event",
    "subscribe_msg_change_event",
    "notify_service_msg_send_result",
    "wxa_punish_event",
];

/// The query of a callback request, as far as it is used; what is missing is empty.
#[derive(Debug, Clone, Default)]
pub struct CallbackQuery {
    /// Signs `timestamp` and `nonce`.
    pub signature: String,
    /// Unix seconds.
    pub timestamp: String,
    /// WeChat's random value.
    pub nonce: String,
    /// `aes` in safe and compatible mode.
    pub encrypt_type: String,
    /// Signs `timestamp`, `nonce` and `Encrypt`.
    pub msg_signature: String,
    /// What the URL's verification asks to be answered.
    pub echostr: Option<String>,
}

impl CallbackQuery {
    /// Reads a query string; unknown parameters are ignored, of repeated ones the first counts.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let mut read = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "signature" => &mut read.signature,
                "timestamp" => &mut read.timestamp,
                "nonce" => &mut read.nonce,
                "encrypt_type" => &mut read.encrypt_type,
                "msg_signature" => &mut read.msg_signature,
                "echostr" => {
                    read.echostr.get_or_insert_with(|| value.into_owned());
                    continue;
                }
                _ => continue,
            };
            if field.is_empty() {
                *field = value.into_owned();
            }
        }
        read
    }
}

/// Why a request is refused. The words name what is wrong and what to look at, never what was in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not signed with this mini-program's token.
    #[error(
        "the signature does not match: the token here must be the one in WeChat's console, else the request is forged"
    )]
    Signature,
    /// Signed too long ago, or in the future.
    #[error(
        "the timestamp is more than 10 minutes from this machine's clock: check the clock, else it is a replay"
    )]
    Stale,
    /// The event says that it happens later than it can have happened.
    #[error(
        "the event's CreateTime is more than 10 minutes ahead of this machine's clock: check the clock, else it is forged"
    )]
    Future,
    /// An EncodingAESKey is set and the event is not encrypted.
    #[error(
        "the event is not encrypted although an EncodingAESKey is set: choose safe mode in WeChat's console, else it is forged"
    )]
    Unencrypted,
    /// Encrypted, and no EncodingAESKey is set.
    #[error(
        "the event is encrypted and no EncodingAESKey is set: set WXNOTIFY_CALLBACK_AESKEY_<appid>"
    )]
    NoKey,
    /// It cannot be decrypted.
    #[error(
        "the event cannot be decrypted: the EncodingAESKey here must be the one in WeChat's console"
    )]
    Cipher,
    /// Decrypted, but meant for another mini-program.
    #[error("the event is for another mini-program: check the appid in the callback URL")]
    OtherApp,
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// Longer than [`BODY_BYTES_MAX`].
    #[error("the body is longer than 64 KiB")]
    Oversized,
    /// Neither the XML nor the JSON of an event.
    #[error("the body is not an event: {0}")]
    Malformed(#[from] DocumentError),
}

impl Refusal {
    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Signature => "bad_signature",
            Self::Stale => "stale",
            Self::Future => "future",
            Self::Unencrypted => "unencrypted",
            Self::NoKey => "no_key",
            Self::Cipher => "undecipherable",
            Self::OtherApp => "other_app",
            Self::NotUtf8 => "not_utf8",
            Self::Oversized => "oversized",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// A push that was proven to be WeChat's.
#[derive(Debug, Clone, PartialEq)]
pub enum Push {
    /// An event to store: the whole document, normalized, with `Event` among [`STORED_EVENTS`].
    Event(Value),
    /// Something else WeChat says; it wants a `success` and nothing more.
    Other,
}

/// Checks and reads the pushes of one mini-program.
pub struct Receiver {
    appid: String,
    token: SecretString,
    aeskey: Option<AesKey>,
    token_previous: Option<SecretString>,
    aeskey_previous: Option<AesKey>,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("appid", &self.appid)
            .field("encrypted", &self.aeskey.is_some())
            .finish_non_exhaustive()
    }
}

impl Receiver {
    /// With a key, only encrypted events are taken.
    #[must_use]
    pub fn new(appid: String, token: SecretString, aeskey: Option<AesKey>) -> Self {
        Self {
            appid,
            token,
            aeskey,
            token_previous: None,
            aeskey_previous: None,
        }
    }

    /// Also takes what is signed with another token or encrypted with another key: both are in use while they are changed.
    /// The key is of use beside the present one alone.
    #[must_use]
    pub fn with_previous(mut self, token: Option<SecretString>, aeskey: Option<AesKey>) -> Self {
        self.token_previous = token;
        self.aeskey_previous = aeskey;
        self
    }

    /// Whose events these are: a body sealed for another appid is refused.
    #[must_use]
    pub fn appid(&self) -> &str {
        &self.appid
    }

    /// Checks the verification that WeChat's console makes when the URL is saved. Returns what must be answered.
    ///
    /// # Errors
    ///
    /// [`Refusal::Signature`] or [`Refusal::Stale`].
    pub fn verify_url<'q>(
        &self,
        query: &'q CallbackQuery,
        now_secs: i64,
    ) -> Result<&'q str, Refusal> {
        self.check(&query.signature, query, None)?;
        check_timestamp(query, now_secs)?;
        query.echostr.as_deref().ok_or(Refusal::Signature)
    }

    /// Reads a push. `now_secs` is our clock in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: answer with a client error and keep nothing of it.
    pub fn read(&self, query: &CallbackQuery, body: &[u8], now_secs: i64) -> Result<Push, Refusal> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Refusal::Oversized);
        }
        let event = match &self.aeskey {
            None => self.read_plain(query, body, now_secs)?,
            Some(aeskey) => self.read_encrypted(query, body, now_secs, aeskey)?,
        };
        match recognize(event) {
            Push::Event(event) if is_of_the_future(&event, now_secs) => Err(Refusal::Future),
            push => Ok(push),
        }
    }

    /// Plaintext mode, and compatible mode without a key: only the query is signed.
    fn read_plain(
        &self,
        query: &CallbackQuery,
        body: &[u8],
        now_secs: i64,
    ) -> Result<Value, Refusal> {
        self.check(&query.signature, query, None)?;
        check_timestamp(query, now_secs)?;
        let mut event = document::read(utf8(body)?)?;
        let encrypted = event
            .as_object_mut()
            .and_then(|members| members.remove("Encrypt"));
        if encrypted.is_some() && event.get("Event").is_none() && event.get("MsgType").is_none() {
            return Err(Refusal::NoKey);
        }
        Ok(event)
    }

    /// Safe and compatible mode: `Encrypt` is signed, and what it holds is the event.
    fn read_encrypted(
        &self,
        query: &CallbackQuery,
        body: &[u8],
        now_secs: i64,
        aeskey: &AesKey,
    ) -> Result<Value, Refusal> {
        if query.encrypt_type != "aes" {
            return Err(Refusal::Unencrypted);
        }
        let envelope = document::read(utf8(body)?)?;
        let Some(encrypted) = envelope.get("Encrypt").and_then(Value::as_str) else {
            return Err(Refusal::Unencrypted);
        };
        self.check(&query.msg_signature, query, Some(encrypted))?;
        check_timestamp(query, now_secs)?;
        let message = self.decrypt(encrypted, aeskey).or_else(|refusal| {
            let previous = self.aeskey_previous.as_ref().ok_or(refusal)?;
            self.decrypt(encrypted, previous).map_err(|_| refusal)
        })?;
        Ok(document::read(utf8(&message)?)?)
    }

    fn decrypt(&self, encrypted: &str, aeskey: &AesKey) -> Result<Vec<u8>, Refusal> {
        let plain = aeskey.decrypt(encrypted).map_err(|_| Refusal::Cipher)?;
        if plain.appid != self.appid.as_bytes() {
            return Err(Refusal::OtherApp);
        }
        Ok(plain.message)
    }

    /// Compares a signature in constant time, with each token that may be in use.
    fn check(
        &self,
        claimed: &str,
        query: &CallbackQuery,
        encrypted: Option<&str>,
    ) -> Result<(), Refusal> {
        let mut tokens = std::iter::once(&self.token).chain(&self.token_previous);
        let is_signed = tokens.any(|token| {
            let computed = sign(
                token.expose_secret(),
                &query.timestamp,
                &query.nonce,
                encrypted,
            );
            bool::from(computed.as_bytes().ct_eq(claimed.as_bytes()))
        });
        is_signed.then_some(()).ok_or(Refusal::Signature)
    }
}

/// `signature` (without `encrypted`) or `msg_signature` (with it): SHA-1 of the sorted strings, in lower-case hex.
#[must_use]
pub fn sign(token: &str, timestamp: &str, nonce: &str, encrypted: Option<&str>) -> String {
    let mut parts: Vec<&str> = [token, timestamp, nonce]
        .into_iter()
        .chain(encrypted)
        .collect();
    parts.sort_unstable();
    let mut sha1 = Sha1::new();
    for part in parts {
        sha1.update(part.as_bytes());
    }
    sha1.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn check_timestamp(query: &CallbackQuery, now_secs: i64) -> Result<(), Refusal> {
    let signed_at: i64 = query.timestamp.parse().map_err(|_| Refusal::Stale)?;
    let skew = now_secs.abs_diff(signed_at);
    if skew <= TIMESTAMP_SKEW_SECS_MAX.unsigned_abs() {
        Ok(())
    } else {
        Err(Refusal::Stale)
    }
}

/// The latest event about a user counts: one from the future would count until then, whatever the user does. An old one
/// harms nobody, and WeChat may be late.
fn is_of_the_future(event: &Value, now_secs: i64) -> bool {
    let created_at = match event.get("CreateTime") {
        Some(Value::Number(secs)) => secs.as_i64(),
        Some(Value::String(secs)) => secs.parse().ok(),
        // Storing it says what is wrong with it.
        _ => None,
    };
    created_at.is_some_and(|at| at > now_secs.saturating_add(TIMESTAMP_SKEW_SECS_MAX))
}

fn utf8(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::NotUtf8)
}

/// Tells events that are stored from everything else.
#[must_use]
pub fn recognize(event: Value) -> Push {
    let name = event
        .get("Event")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if STORED_EVENTS.contains(&name) {
        Push::Event(event)
    } else {
        Push::Other
    }
}

#[cfg(test)]
mod tests;
