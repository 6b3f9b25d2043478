//! What WeChat's errcodes mean for a row. The rules are data (table `wechat_errcodes`, which says where each comes
//! from); this module holds them in memory and answers [`ErrcodeTable::rule`]. Pure.

use std::{collections::HashMap, time::Duration};

use crate::notification::{Credit, PauseUntil};

/// WeChat is busy; nothing was sent.
pub const SYSTEM_BUSY: i64 = -1;
/// The access token or the AppSecret is wrong.
pub const INVALID_CREDENTIAL: i64 = 40001;
/// What a token is refused with: wrong, malformed, expired.
pub const DEAD_TOKEN: [i64; 3] = [INVALID_CREDENTIAL, 40014, 42001];
/// WeChat is handling another call for the same user.
pub const USER_BUSY: i64 = 43108;
/// More calls a minute than WeChat takes.
pub const CALLED_TOO_OFTEN: i64 = 45011;
/// WeChat does not know the service card's code (yet).
pub const NO_SUCH_CARD_CODE: i64 = 85437;
/// The state may not follow the service card's present one.
pub const ILLEGAL_CARD_STATE: i64 = 85439;

/// What to do with a row that got an errcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// WeChat accepted it.
    Sent,
    /// Try again with backoff; counts an attempt.
    Retry,
    /// Replace the access token and send once more; counts no attempt of its own.
    RefreshToken,
    /// Stop the whole mini-program for a while; the row waits, no attempt is counted.
    PauseApp,
    /// Stop one template for a while; the row waits, no attempt is counted.
    PauseTemplate,
    /// Leave this user alone for a while; the row waits, no attempt is counted.
    PauseUser,
    /// It can never be sent: dead-letter it.
    Dead,
}

impl Disposition {
    /// The disposition stored as `text`, or `None` for a word this version does not know.
    pub fn from_column(text: &str) -> Option<Self> {
        Some(match text {
            "sent" => Self::Sent,
            "retry" => Self::Retry,
            "refresh_token" => Self::RefreshToken,
            "pause_app" => Self::PauseApp,
            "pause_template" => Self::PauseTemplate,
            "pause_user" => Self::PauseUser,
            "dead" => Self::Dead,
            _ => return None,
        })
    }
}

/// The handling of one errcode.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrcodeRule {
    /// The errcode; `None` in the rule for codes that are not listed.
    pub errcode: Option<i64>,
    /// What to do with the row.
    pub disposition: Disposition,
    /// What became of the credit when the row dies of it.
    pub credit: Credit,
    /// How long a pause lasts, or the wait of a `retry` that has one; `None`: a default per disposition.
    pub pause: Option<PauseUntil>,
    /// Retries after which a row dies of this code even if attempts are left.
    pub retries_max: Option<i16>,
    /// When this code in numbers stops more than its row.
    pub escalation: Option<Escalation>,
}

/// From when on an errcode stops a template or the whole mini-program.
#[derive(Debug, Clone, PartialEq)]
pub struct Escalation {
    /// What is stopped, and whose calls are looked at.
    pub scope: Scope,
    /// What is counted.
    pub counted: Counted,
    /// Stops when at least so many were counted …
    pub count_min: u32,
    /// … and the code makes up at least this share of the calls, 1 to 100; `None`: whatever the share.
    pub percent_min: Option<u8>,
    /// The calls looked at.
    pub window: Window,
    /// How long the pause lasts.
    pub pause: PauseUntil,
}

/// What an escalation stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every row of the mini-program.
    App,
    /// One template of it.
    Template,
}

/// What an escalation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Calls with the code.
    Calls,
    /// Calls with the code for one and the same page.
    CallsOfOnePage,
    /// Different users with the code.
    Openids,
    /// Different templates with the code.
    Templates,
}

/// The calls an escalation looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Those of the last so long.
    Time(Duration),
    /// The last so many, at most 64.
    Calls(u8),
}

/// All rules.
#[derive(Debug, Clone)]
pub struct ErrcodeTable {
    rules: HashMap<i64, ErrcodeRule>,
    unlisted: ErrcodeRule,
}

impl ErrcodeTable {
    /// A table of the listed rules; of two for one code the later holds.
    pub fn new(rules: impl IntoIterator<Item = ErrcodeRule>) -> Self {
        let rules = rules
            .into_iter()
            .filter_map(|rule| Some((rule.errcode?, rule)))
            .collect();
        Self {
            rules,
            unlisted: Self::unlisted(),
        }
    }

    /// The rule for `errcode`; for one that is not listed: at most three retries, then dead, and a pause of the
    /// mini-program when such codes are a fifth of all answers.
    pub fn rule(&self, errcode: i64) -> &ErrcodeRule {
        self.rules.get(&errcode).unwrap_or(&self.unlisted)
    }

    /// How many codes are listed.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether no code is listed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// WeChat adds codes without notice: one that is not listed may be a passing trouble or a lasting one.
    fn unlisted() -> ErrcodeRule {
        ErrcodeRule {
            errcode: None,
            disposition: Disposition::Retry,
            credit: Credit::Unknown,
            pause: None,
            retries_max: Some(3),
            escalation: Some(Escalation {
                scope: Scope::App,
                counted: Counted::Calls,
                count_min: 5,
                percent_min: Some(20),
                window: Window::Time(Duration::from_secs(300)),
                pause: PauseUntil::After(Duration::from_secs(600)),
            }),
        }
    }
}
