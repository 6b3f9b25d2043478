//! The domain: a leased [`Notification`] on its way out, the [`Outcome`] of one attempt on its way back.
//!
//! An *attempt* is one send, counted from 1. Its outcome is a [`Verdict`] with the evidence for it. All delays are
//! relative: the database's clock turns them into times, so workers with skewed clocks agree.
//!
//! Openids and message bodies are personal data: the `Debug` and `Display` of everything here leave them out.
//!
//! Start at [`Notification`], then [`Outcome`] and [`Conclusion`].

mod kind;

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use secrecy::SecretString;

pub use kind::Kind;

/// A notification that is leased by this worker and may be sent now.
#[derive(Clone)]
pub struct Notification {
    /// The row's id, kept for life.
    pub id: i64,
    /// The mini-program that sends.
    pub appid: String,
    /// Which of WeChat's subscriptions it uses.
    pub kind: Kind,
    /// The receiver.
    pub openid: Openid,
    /// WeChat's private template id; a service card's notify_type.
    pub template_id: String,
    /// The page that the card opens; `None`: the card does not jump.
    pub page: Option<String>,
    /// The fields as stored, a JSON object in the long (`{"thing2": {"value": "…"}}`) or short form (`{"thing2": "…"}`).
    pub data: String,
    /// What only one kind of message needs, as JSON.
    pub extra: Option<String>,
    /// `developer`, `trial` or `formal`.
    pub miniprogram_state: String,
    /// `zh_CN`, `en_US`, `zh_HK` or `zh_TW`.
    pub lang: String,
    /// Attempts counted before this one.
    pub attempts: i16,
    /// Attempts after which the row is dead-lettered.
    pub attempts_max: i16,
    /// An earlier send of this row may have reached WeChat.
    pub in_doubt: bool,
    /// Not after: the row must not be sent later than this.
    pub expire_at: Option<DateTime<Utc>>,
    /// Since when the row could have been sent, `max(created_at, send_at)`: it bounds parks that count no attempt.
    pub waiting_since: DateTime<Utc>,
    /// The row is the probe of a mini-program that was paused: a sound answer ends the pause.
    pub probe: bool,
}

impl fmt::Debug for Notification {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Notification")
            .field("id", &self.id)
            .field("appid", &self.appid)
            .field("kind", &self.kind)
            .field("openid", &self.openid)
            .field("template_id", &self.template_id)
            .field("data_bytes", &self.data.len())
            .field("attempts", &self.attempts)
            .field("attempts_max", &self.attempts_max)
            .field("in_doubt", &self.in_doubt)
            .field("expire_at", &self.expire_at)
            .finish_non_exhaustive()
    }
}

/// A user of one mini-program, as WeChat names them. Never shown: `Debug` and `Display` print `[openid]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Openid(Box<str>);

impl Openid {
    /// Wraps an openid.
    pub fn new(openid: impl Into<Box<str>>) -> Self {
        Self(openid.into())
    }

    /// The openid itself, for the request to WeChat alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Openid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[openid]")
    }
}

impl fmt::Display for Openid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[openid]")
    }
}

/// What one attempt led to, with the evidence that the attempt's record keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The notification it is about.
    pub notification_id: i64,
    /// What becomes of the row.
    pub verdict: Verdict,
    /// WeChat's errcode; `None` when no readable reply came.
    pub errcode: Option<i64>,
    /// WeChat's errmsg, at most [`ERRMSG_CHARS_MAX`] characters.
    pub errmsg: Option<String>,
    /// WeChat's request id.
    pub rid: Option<String>,
    /// WeChat's id of the message, an integer above 2^53.
    pub msgid: Option<i64>,
    /// HTTP status; `None` when none came.
    pub http_status: Option<i16>,
    /// The transport failure, pause or park in words, without secrets.
    pub reason: Option<String>,
    /// Milliseconds from the request to the reply or failure; `None` when nothing was asked.
    pub response_ms: Option<i32>,
}

/// Longest errmsg that is kept, in characters.
pub const ERRMSG_CHARS_MAX: usize = 500;

impl Outcome {
    /// The outcome of a notification that was not sent at all: no request was made.
    pub fn unsent(notification_id: i64, verdict: Verdict, reason: Option<String>) -> Self {
        Self {
            notification_id,
            verdict,
            errcode: None,
            errmsg: None,
            rid: None,
            msgid: None,
            http_status: None,
            reason,
            response_ms: None,
        }
    }
}

/// An outcome with what it means for more than its own row.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion<O = Outcome> {
    /// What becomes of the row.
    pub outcome: O,
    /// For the worker to store.
    pub effects: Vec<Effect>,
}

impl<O> From<O> for Conclusion<O> {
    fn from(outcome: O) -> Self {
        Self {
            outcome,
            effects: Vec::new(),
        }
    }
}

/// What becomes of a row after an attempt.
///
/// Whether a 43101 on a row in doubt means that the earlier send arrived (`presumed_sent`) is for the database to
/// decide, which alone knows the user's other rows: here it is `Dead { credit: Gone }` with its errcode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// WeChat accepted it.
    Sent,
    /// It will not be sent; `credit` says what the user still has.
    Dead {
        /// What became of the user's credit.
        credit: Credit,
    },
    /// `expire_at` has passed; nothing was sent.
    Expired,
    /// Not sent; an attempt is counted, the next one comes `after` this long.
    Retry {
        /// From now.
        after: Duration,
    },
    /// Not sent; no attempt is counted.
    Park {
        /// What the row waits for.
        waiting_for: WaitingFor,
        /// From now.
        after: Duration,
    },
    /// It may have been sent: an attempt is counted and evidence awaited.
    InDoubt,
    /// Nothing was sent and no attempt is counted: due again at once.
    Release,
    /// WeChat shows the service card in the row's state or a later one: it was sent. An attempt is counted when there is an
    /// errcode beside it.
    Found,
    /// WeChat does not show the service card in the row's state: the send in doubt did not arrive. Due again at once, no
    /// attempt is counted.
    NotFound,
}

/// What became of the user's credit, the right to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// WeChat still holds it: a corrected copy of the message can be sent.
    Kept,
    /// There is none.
    Gone,
    /// WeChat's answer does not say.
    Unknown,
}

impl Credit {
    /// The credit stored as `text`, or `None` for a word this version does not know.
    pub fn from_column(text: &str) -> Option<Self> {
        match text {
            "kept" => Some(Self::Kept),
            "gone" => Some(Self::Gone),
            "unknown" => Some(Self::Unknown),
            _ => None,
        }
    }

    /// The word in the column `credit`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }
}

/// What a parked row waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingFor {
    /// WeChat took another call for this user at the same moment, or limits the user.
    User,
    /// The template is paused.
    Template,
    /// The mini-program is paused, or no access token can be had.
    App,
    /// The user turned the template off: the next accept releases the row.
    Refused,
    /// The row stays in doubt: WeChat could not be asked for its service card's state.
    Doubt,
}

impl WaitingFor {
    /// The word in the column `waiting_for`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Template => "template",
            Self::App => "app",
            Self::Refused => "refused",
            Self::Doubt => "doubt",
        }
    }
}

/// What an attempt means for more than its own row. The worker hands it to the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Stop leasing rows of the mini-program, then probe with one row.
    PauseApp {
        /// Which one stops.
        appid: String,
        /// For how long.
        until: PauseUntil,
        /// Why, for people.
        reason: String,
        /// The errcode that caused it, if one did.
        errcode: Option<i64>,
    },
    /// Let the rows of one template wait.
    PauseTemplate {
        /// Whose template it is: ids are private to a mini-program.
        appid: String,
        /// The template.
        template_id: String,
        /// For how long.
        until: PauseUntil,
        /// Why, for people.
        reason: String,
        /// The errcode that caused it, if one did.
        errcode: Option<i64>,
    },
    /// The probe of a paused mini-program got a sound answer: lease at full speed again.
    ProbeOk {
        /// Whose pause ends.
        appid: String,
    },
}

/// How long a pause lasts. The database turns it into a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseUntil {
    /// This long from now.
    After(Duration),
    /// Until an operator resumes it.
    Operator,
    /// Until the next 00:00 in China (UTC+8), when daily quotas begin anew, and up to 60 s.
    ChinaMidnight,
    /// Until the next full minute and 1 to 10 s.
    NextMinute,
}

impl PauseUntil {
    /// The rule's word in the column `pause_until` and in the pause functions; `None` for a plain span.
    pub fn rule(self) -> Option<&'static str> {
        match self {
            Self::After(_) => None,
            Self::Operator => Some("operator"),
            Self::ChinaMidnight => Some("china_midnight"),
            Self::NextMinute => Some("next_minute"),
        }
    }

    /// Seconds of a plain span; `None` for a rule.
    pub fn secs(self) -> Option<f64> {
        match self {
            Self::After(span) => Some(span.as_secs_f64()),
            _ => None,
        }
    }
}

/// A login code that this worker may exchange.
#[derive(Debug)]
pub struct ClaimedLogin {
    /// The row.
    pub id: i64,
    /// Whose secret exchanges it.
    pub appid: String,
    /// The code.
    pub code: SecretString,
    /// Which of the row's claims this is: the fence.
    pub claim: i16,
}

/// What an exchange led to.
#[derive(Debug, PartialEq)]
pub struct LoginOutcome {
    /// The row.
    pub id: i64,
    /// The claim it was made under.
    pub claim: i16,
    /// What becomes of the row.
    pub verdict: LoginVerdict,
    /// WeChat's errcode.
    pub errcode: Option<i64>,
    /// WeChat's errmsg, or the transport failure.
    pub errmsg: Option<String>,
    /// WeChat's request id.
    pub rid: Option<String>,
}

/// What becomes of a row after an exchange.
#[derive(Debug, PartialEq)]
pub enum LoginVerdict {
    /// It has its receiver now.
    Receiver(Openid),
    /// Its code is of no use: it never will have one.
    Dead {
        /// What became of the user's credit.
        credit: Credit,
    },
    /// The code is tried again, if it still lives then.
    Retry {
        /// From now.
        after: Duration,
        /// This call may have used it.
        unclear: bool,
    },
}

impl LoginVerdict {
    /// The label of the metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Receiver(_) => "openid",
            Self::Dead { .. } => "dead",
            Self::Retry { .. } => "retry",
        }
    }
}

impl fmt::Display for LoginVerdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.label())
    }
}

/// A notification for unit tests.
#[cfg(test)]
pub(crate) fn sample() -> Notification {
    Notification {
        id: 42,
        appid: "wx1111222233334444".into(),
        kind: Kind::OneTime,
        openid: Openid::new("oUser0000000000000000000001"),
        template_id: "TmplAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1".into(),
        page: Some("pages/order/detail?id=42".into()),
        data: r#"{"thing2": {"value": "手冲咖啡两杯"}}"#.into(),
        extra: None,
        miniprogram_state: "formal".into(),
        lang: "zh_CN".into(),
        attempts: 0,
        attempts_max: 8,
        in_doubt: false,
        expire_at: None,
        waiting_since: Utc::now(),
        probe: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_openid_is_never_printed() {
        let openid = Openid::new("oSecretUser");
        assert_eq!(format!("{openid} {openid:?}"), "[openid] [openid]");
        assert_eq!(openid.expose(), "oSecretUser");
    }

    #[test]
    fn a_notification_is_printed_without_its_receiver_and_body() {
        let notification = crate::notification::sample();
        let printed = format!("{notification:?}");
        for secret in ["oUser", "手冲咖啡", "pages/order"] {
            assert!(!printed.contains(secret), "{printed} shows {secret}");
        }
        assert!(printed.contains("42"), "{printed}");
    }
}
