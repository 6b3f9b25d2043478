//! One attempt at one leased notification: token → send → [`judge`] → [`Conclusion`].
//!
//! [`judge`] is pure: what WeChat's reply and the rule for its errcode mean for the row. Around it stands what needs
//! more than one row: the token that may have to be replaced (`tokens`), and the windows of the [`breaker`]. Service
//! cards are read back (`cards`), and login codes exchanged ([`logins`]). What an attempt means for a whole mini-program or
//! template comes back as [`Effect`]s beside the [`Outcome`], for the worker to store.
//!
//! A repeat with a new token is part of the same attempt: the first request was refused before anything was sent.
//!
//! Start at [`Deliverer::deliver`].

pub mod breaker;
mod cards;
mod judgement;
pub mod logins;
mod telling;
mod tokens;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

pub use self::cards::judge_read_back;
pub use self::judgement::{Judgement, judge};

use self::breaker::{Breaker, Observation};
use self::judgement::outcome_of;
use self::telling::{Told, report, unreachable};
use self::tokens::{TOKEN_WAIT, refuses_token, released};
use crate::lock::lock;
use crate::notification::{Conclusion, Credit, Effect, Notification, Outcome, Verdict};
use crate::retry::RetryPolicy;
use crate::telemetry;
use crate::token_keeper::{TokenError, TokenKeeper};
use crate::wechat::errcode::ErrcodeTable;
use crate::wechat::{Dispute, Reply, Wechat, card};

/// A delivery older than this does not begin a second request: its lease must not run out under it.
const REPEAT_WITHIN: Duration = Duration::from_secs(5);

/// Delivers notifications. One per process, shared by all sends in flight.
pub struct Deliverer {
    wechat: Arc<Wechat>,
    tokens: TokenKeeper,
    errcodes: RwLock<Arc<ErrcodeTable>>,
    policy: RetryPolicy,
    breaker: Mutex<Breaker>,
    told: Mutex<Told>,
}

impl Deliverer {
    /// A deliverer that has seen nothing yet.
    pub fn new(
        wechat: Arc<Wechat>,
        tokens: TokenKeeper,
        errcodes: ErrcodeTable,
        policy: RetryPolicy,
    ) -> Self {
        Self {
            wechat,
            tokens,
            errcodes: RwLock::new(Arc::new(errcodes)),
            policy,
            breaker: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Takes new rules: an operator may have changed the table.
    pub fn replace_errcodes(&self, errcodes: ErrcodeTable) {
        *self
            .errcodes
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(errcodes);
    }

    /// Makes one attempt. Never fails: whatever happens is an outcome, and effects for the worker to store.
    ///
    /// No request leaves after `send_before`: the row expires then, or its lease may lapse under the request. Takes at
    /// most the client's request time-out and ten seconds. The row must be in a lease that was started.
    pub async fn deliver(&self, notification: &Notification, send_before: Instant) -> Conclusion {
        let rules = self.rules();
        let mut conclusion = if notification.in_doubt && card::reads_back(notification) {
            self.read_back(notification, &rules, send_before).await
        } else {
            match self.exchange(notification, &rules, send_before).await {
                Ended::Replied(reply) if cards::is_illegal_state(&reply, notification) => {
                    self.conclude_by_state(notification, &reply, &rules).await
                }
                Ended::Replied(reply) => self.conclude(notification, &reply, &rules, Utc::now()),
                Ended::Unsent(conclusion) => conclusion,
            }
        };
        self.leave_out_repeats(&mut conclusion.effects);
        report(&conclusion);
        conclusion
    }

    /// Puts an outcome in doubt whose answer has come for another row, too, since it was judged.
    pub(crate) fn question(&self, outcome: &mut Outcome) {
        let by_answer = matches!(
            outcome.verdict,
            Verdict::Sent | Verdict::Dead { .. } | Verdict::Retry { .. } | Verdict::Park { .. }
        );
        if !by_answer
            || !self
                .wechat
                .is_disputed(outcome.rid.as_deref(), outcome.msgid)
        {
            return;
        }
        let reason = "the answer came for another request, too, and may not be this one's";
        *outcome = Outcome {
            http_status: outcome.http_status,
            response_ms: outcome.response_ms,
            ..Outcome::unsent(
                outcome.notification_id,
                Verdict::InDoubt,
                Some(reason.to_owned()),
            )
        };
        telemetry::record_repeated_answer();
    }

    /// The answers that came for two rows, since the last call.
    pub(crate) fn take_disputes(&self) -> Vec<Dispute> {
        self.wechat.take_disputes()
    }

    fn rules(&self) -> Arc<ErrcodeTable> {
        Arc::clone(&self.errcodes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends, with a second request if the first one's token turns out to be dead.
    async fn exchange(
        &self,
        notification: &Notification,
        rules: &ErrcodeTable,
        send_before: Instant,
    ) -> Ended {
        let started_at = Instant::now();
        let appid = &notification.appid;
        let token = match self.tokens.token(appid, TOKEN_WAIT).await {
            Ok(token) => token,
            Err(error) => return self.no_token(notification, &error, rules),
        };
        let token = match self.probe(notification, token, rules).await {
            Ok(token) => token,
            Err(ended) => return ended,
        };
        if Instant::now() >= send_before {
            return released(notification);
        }
        let reply = match self.wechat.send(&token, notification).await {
            Ok(reply) => reply,
            Err(error) => {
                let verdict = Verdict::Dead {
                    credit: Credit::Kept,
                };
                let outcome = Outcome::unsent(notification.id, verdict, Some(error.to_string()));
                return Ended::Unsent(outcome.into());
            }
        };
        if !refuses_token(&reply, rules) {
            return Ended::Replied(reply);
        }
        let in_time = started_at.elapsed() < REPEAT_WITHIN;
        let wait = if in_time {
            REPEAT_WITHIN
        } else {
            Duration::ZERO
        };
        let replaced = match self.tokens.replace(appid, &token, wait).await {
            Ok(replaced) if in_time => replaced,
            Ok(_) | Err(TokenError::Busy) => return released(notification),
            Err(error) => return self.no_token(notification, &error, rules),
        };
        if Instant::now() >= send_before {
            return released(notification);
        }
        match self.wechat.send(&replaced, notification).await {
            Ok(reply) if refuses_token(&reply, rules) => {
                self.refused_again(notification, &token, &replaced, reply, rules)
                    .await
            }
            Ok(reply) => Ended::Replied(reply),
            Err(_) => released(notification),
        }
    }

    fn conclude(
        &self,
        notification: &Notification,
        reply: &Reply,
        rules: &ErrcodeTable,
        now: DateTime<Utc>,
    ) -> Conclusion {
        let judgement = judge(reply, rules, notification, &self.policy, now);
        let why_not = match reply {
            Reply::NotSent { reason, .. } => unreachable(reason),
            _ => String::new(),
        };
        let observation = match reply {
            Reply::Answered { errcode, .. } => Observation::Answered {
                errcode: *errcode,
                rule: rules.rule(*errcode),
                sound: judgement.sound,
            },
            Reply::PossiblySent { .. } => Observation::PossiblySent,
            Reply::NotSent { .. } => {
                self.tell(notification, &why_not);
                Observation::NotSent(&why_not)
            }
        };
        let mut effects = judgement.effects;
        effects.extend(self.observe(notification, observation));
        Conclusion {
            outcome: outcome_of(notification.id, reply, judgement.verdict),
            effects,
        }
    }

    fn observe(&self, notification: &Notification, observation: Observation<'_>) -> Vec<Effect> {
        let effects = lock(&self.breaker).observe(notification, observation, Instant::now());
        if effects
            .iter()
            .any(|effect| matches!(effect, Effect::PauseApp { .. }))
        {
            telemetry::record_breaker_trip(&notification.appid);
        }
        effects
    }
}

/// How the requests of one attempt ended.
enum Ended {
    Replied(Reply),
    Unsent(Conclusion),
}
