//! One attempt at one leased notification: token → send → [`judge`] → [`Outcome`].
//!
//! [`judge`] is pure: what WeChat's reply and the rule for its errcode mean for the row. Around it stands what needs
//! more than one row: the token that may have to be replaced, and the windows of [`Breaker`]. What an attempt means
//! for a whole mini-program or template comes back as [`Effect`]s, for the worker to store.
//!
//! A repeat with a new token is part of the same attempt: the first request was refused before anything was sent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::{debug, warn};

use crate::{
    breaker::{Breaker, Observation},
    login::{self, ClaimedLogin, LoginOutcome},
    notification::{Credit, Effect, Kind, Notification, Outcome, PauseUntil, Verdict, WaitingFor},
    retry::RetryPolicy,
    telemetry::{self, Restraint},
    token_keeper::{TokenError, TokenKeeper},
    wechat::{
        Dispute, Reply, Wechat,
        access_token::{AccessToken, FetchError},
        account::AccountError,
        card::{self, Standing},
        errcode::{Disposition, ErrcodeRule, ErrcodeTable},
        login::LoginReply,
    },
};

/// How long a delivery waits for a token; longer is left to the next lease.
const TOKEN_WAIT: Duration = Duration::from_secs(8);
/// A delivery older than this does not begin a second request: its lease must not run out under it.
const REPEAT_WITHIN: Duration = Duration::from_secs(5);
/// The pause where a rule has none.
const PAUSE: Duration = Duration::from_secs(300);
/// A row parked for a mini-program or template looks again at least so often: pauses may end early.
const PARK_MAX: Duration = Duration::from_secs(600);
/// A row whose user refuses it is released by the next accept; it looks by itself only in case that was missed.
const REFUSED_LOOK: Duration = Duration::from_secs(3600);
/// Parks count no attempt, but not for ever: from this age on they do.
const PARKS_UNCOUNTED_FOR: TimeDelta = TimeDelta::hours(24);
/// The same pause is not asked for again sooner: everything in flight tends to fail alike.
const SAME_PAUSE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why rows of a mini-program are not sent is not said again sooner.
const SAME_REASON_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Delivers notifications. One per process, shared by all sends in flight.
pub struct Deliverer {
    wechat: Arc<Wechat>,
    tokens: TokenKeeper,
    errcodes: RwLock<Arc<ErrcodeTable>>,
    policy: RetryPolicy,
    windows: Mutex<Windows>,
}

#[derive(Default)]
struct Windows {
    breaker: Breaker,
    asked_pauses: HashMap<String, Instant>,
    /// Why rows of a mini-program were last said not to be sent.
    told: HashMap<String, (String, Instant)>,
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
            windows: Mutex::default(),
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
    pub async fn deliver(
        &self,
        notification: &Notification,
        send_before: Instant,
    ) -> (Outcome, Vec<Effect>) {
        let rules = self.rules();
        if notification.in_doubt && card::reads_back(notification) {
            let (outcome, effects) = self.read_back(notification, &rules, send_before).await;
            let effects = self.without_repeats(effects);
            report(&outcome, &effects);
            return (outcome, effects);
        }
        let (outcome, effects) = match self.exchange(notification, &rules, send_before).await {
            Ended::Replied(reply) if is_illegal_state(&reply, notification) => {
                self.conclude_by_state(notification, &reply, &rules).await
            }
            Ended::Replied(reply) => self.conclude(notification, &reply, &rules, Utc::now()),
            Ended::Unsent(outcome, effects) => (outcome, effects),
        };
        let effects = self.without_repeats(effects);
        report(&outcome, &effects);
        (outcome, effects)
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
                return Ended::Unsent(outcome, Vec::new());
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

    /// Asks for the state of a service card that may have been sent. Nothing is sent here: what is not there is due again.
    async fn read_back(
        &self,
        notification: &Notification,
        rules: &ErrcodeTable,
        send_before: Instant,
    ) -> (Outcome, Vec<Effect>) {
        let token = match self.tokens.token(&notification.appid, TOKEN_WAIT).await {
            Ok(token) => token,
            Err(error) => match self.no_token(notification, &error, rules) {
                Ended::Unsent(outcome, effects) => return (outcome, effects),
                Ended::Replied(_) => unreachable!("without a token nothing is sent"),
            },
        };
        if Instant::now() >= send_before {
            let outcome = Outcome::unsent(notification.id, Verdict::Release, None);
            return (outcome, Vec::new());
        }
        let shown = self.wechat.read_card(&token, notification).await;
        if let Err(reply) = &shown
            && refuses_token(reply, rules)
        {
            // Asked again with the new one in a moment, by whoever leases the row then.
            let _ = self
                .tokens
                .replace(&notification.appid, &token, REPEAT_WITHIN)
                .await;
        }
        if let Err(Reply::NotSent { reason, .. }) = &shown {
            let reason = unreachable(reason);
            let mut judged = judge_read_back(notification, shown, rules, Utc::now());
            judged
                .1
                .extend(self.observe(notification, Observation::NotSent(&reason)));
            return judged;
        }
        judge_read_back(notification, shown, rules, Utc::now())
    }

    /// WeChat refuses the state: it may be there already, or a later one.
    async fn conclude_by_state(
        &self,
        notification: &Notification,
        reply: &Reply,
        rules: &ErrcodeTable,
    ) -> (Outcome, Vec<Effect>) {
        let shown = match self.tokens.token(&notification.appid, TOKEN_WAIT).await {
            Ok(token) => self.wechat.read_card(&token, notification).await.ok(),
            Err(_) => None,
        };
        let (mut outcome, effects) = self.conclude(notification, reply, rules, Utc::now());
        if let Some(verdict) = verdict_of_illegal_state(shown, notification, rules, &self.policy) {
            outcome.verdict = verdict;
        }
        outcome.reason = Some(match shown {
            Some(standing) => format!("read back: {}", standing.in_words()),
            None => "the card's state could not be read back".to_owned(),
        });
        (outcome, effects)
    }

    /// Exchanges a claimed login code. Never fails: whatever happens is an outcome, and effects for the worker to store.
    pub async fn exchange_login(&self, login: &ClaimedLogin) -> (LoginOutcome, Vec<Effect>) {
        let reply = match self.tokens.secret(&login.appid) {
            Some(secret) => {
                let exchange = self
                    .wechat
                    .exchange_login_code(&login.appid, secret, &login.code);
                exchange.await
            }
            None => LoginReply::NotSent {
                reason: format!("no AppSecret for {} is set here", login.appid),
            },
        };
        let (outcome, effects) = login::judge(reply, &self.rules(), login, Utc::now());
        (outcome, self.without_repeats(effects))
    }

    /// After a pause, asks WeChat something that costs no credit before a message is risked: a token that is still dead and
    /// a gateway that still answers nobody show themselves here. Other refusals are left to the message itself.
    async fn probe(
        &self,
        notification: &Notification,
        token: AccessToken,
        rules: &ErrcodeTable,
    ) -> Result<AccessToken, Ended> {
        if !notification.probe {
            return Ok(token);
        }
        let appid = &notification.appid;
        let (is_lost, reason) = match self.wechat.read_send_quota(&token).await {
            Err(AccountError::NotAsked { reason }) => (false, unreachable(&reason)),
            Err(AccountError::NoReply { reason }) => (true, reason),
            Err(AccountError::Refused { errcode, .. })
                if rules.rule(errcode).disposition == Disposition::RefreshToken =>
            {
                let replaced = self.tokens.replace(appid, &token, TOKEN_WAIT).await;
                return replaced.map_err(|error| self.no_token(notification, &error, rules));
            }
            Ok(_) | Err(AccountError::Refused { .. }) => return Ok(token),
        };
        let verdict = Verdict::Park {
            waiting_for: WaitingFor::App,
            after: spread(5, 15),
        };
        let observation = if is_lost {
            Observation::PossiblySent
        } else {
            Observation::NotSent(&reason)
        };
        let effects = self.observe(notification, observation);
        let outcome = Outcome::unsent(notification.id, verdict, Some(reason));
        Err(Ended::Unsent(outcome, effects))
    }

    /// Both requests were refused for their token. If WeChat had handed back the same one, it is worth another try.
    async fn refused_again(
        &self,
        notification: &Notification,
        first: &AccessToken,
        second: &AccessToken,
        reply: Reply,
        rules: &ErrcodeTable,
    ) -> Ended {
        if first.expose() != second.expose() {
            return Ended::Replied(reply);
        }
        match self
            .tokens
            .replace(&notification.appid, second, TOKEN_WAIT / 2)
            .await
        {
            Ok(_) => released(notification),
            Err(error) => self.no_token(notification, &error, rules),
        }
    }

    fn conclude(
        &self,
        notification: &Notification,
        reply: &Reply,
        rules: &ErrcodeTable,
        now: DateTime<Utc>,
    ) -> (Outcome, Vec<Effect>) {
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
        (
            outcome_of(notification.id, reply, judgement.verdict),
            effects,
        )
    }

    fn observe(&self, notification: &Notification, observation: Observation<'_>) -> Vec<Effect> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let effects = windows
            .breaker
            .observe(notification, observation, Instant::now());
        drop(windows);
        if effects
            .iter()
            .any(|effect| matches!(effect, Effect::PauseApp { .. }))
        {
            telemetry::record_breaker_trip(&notification.appid);
        }
        effects
    }

    /// Nothing was sent for want of a token: the row waits, no attempt is counted.
    fn no_token(
        &self,
        notification: &Notification,
        error: &TokenError,
        rules: &ErrcodeTable,
    ) -> Ended {
        let reason = error.to_string();
        self.tell(notification, &reason);
        let (after, effects) = match error {
            TokenError::NoSecret { .. } => (Duration::from_secs(60), Vec::new()),
            TokenError::Store(_) => (spread(2, 4), Vec::new()),
            // A token endpoint that hangs looks busy from here: slots must not be spent on waiting for it.
            TokenError::Busy
            | TokenError::Fetch(FetchError::NotAsked { .. } | FetchError::NoReply { .. }) => (
                spread(5, 15),
                self.observe(notification, Observation::NotSent(&reason)),
            ),
            TokenError::Irreplaceable => {
                let until = PauseUntil::After(PAUSE);
                (
                    PAUSE,
                    vec![pause_app(
                        notification,
                        until,
                        error.to_string(),
                        Some(40001),
                    )],
                )
            }
            TokenError::Fetch(FetchError::Refused { errcode, .. }) => {
                let until = pause_for_token(rules.rule(*errcode));
                let effect = pause_app(notification, until, error.to_string(), Some(*errcode));
                (park_for(until), vec![effect])
            }
        };
        let verdict = Verdict::Park {
            waiting_for: WaitingFor::App,
            after,
        };
        let mut outcome = Outcome::unsent(notification.id, verdict, Some(error.to_string()));
        if let TokenError::Fetch(FetchError::Refused {
            errcode,
            errmsg,
            rid,
        }) = error
        {
            outcome.errcode = Some(*errcode);
            outcome.errmsg.clone_from(errmsg);
            outcome.rid.clone_from(rid);
        }
        Ended::Unsent(outcome, effects)
    }

    /// Says why rows of a mini-program are not sent, also if they are too few for a pause; the same again after a while only.
    fn tell(&self, notification: &Notification, reason: &str) {
        let appid = &notification.appid;
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = windows.told.get(appid).is_some_and(|(told, at)| {
            told == reason && now.duration_since(*at) < SAME_REASON_AGAIN_AFTER
        });
        if !is_told {
            let told = (reason.to_owned(), now);
            windows.told.insert(appid.clone(), told);
            drop(windows);
            warn!(%appid, "Rows of {appid} are not sent: {reason}");
        }
    }

    /// Leaves out pauses that another send has just asked for. One that was not stored comes again with the next failure.
    fn without_repeats(&self, mut effects: Vec<Effect>) -> Vec<Effect> {
        const REMEMBERED_MAX: usize = 1000;
        if effects.is_empty() {
            return effects;
        }
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = &mut windows.asked_pauses;
        if asked.len() > REMEMBERED_MAX {
            asked.clear();
        }
        effects.retain(|effect| {
            let key = match effect {
                Effect::PauseApp { appid, until, .. } => format!("{appid} {until:?}"),
                Effect::PauseTemplate {
                    appid,
                    template_id,
                    until,
                    ..
                } => {
                    format!("{appid} {template_id} {until:?}")
                }
                Effect::ProbeOk { .. } => return true,
            };
            let is_new = asked
                .get(&key)
                .is_none_or(|before| now.duration_since(*before) >= SAME_PAUSE_AGAIN_AFTER);
            if is_new {
                asked.insert(key, now);
            }
            is_new
        });
        effects
    }
}

/// How the requests of one attempt ended.
enum Ended {
    Replied(Reply),
    Unsent(Outcome, Vec<Effect>),
}

/// What a reply means for its row and beyond.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What becomes of the row.
    pub verdict: Verdict,
    /// What follows for its mini-program or template.
    pub effects: Vec<Effect>,
    /// WeChat serves this mini-program: a probe that got this reply has succeeded.
    pub sound: bool,
}

/// Judges one reply. `now` is compared with the row's age only.
pub fn judge(
    reply: &Reply,
    rules: &ErrcodeTable,
    notification: &Notification,
    policy: &RetryPolicy,
    now: DateTime<Utc>,
) -> Judgement {
    match reply {
        Reply::Answered { errcode, .. } => {
            judge_errcode(*errcode, rules.rule(*errcode), notification, policy, now)
        }
        Reply::PossiblySent { .. } => Judgement {
            verdict: Verdict::InDoubt,
            effects: Vec::new(),
            sound: false,
        },
        // An outage of our network must not use up attempts; expire_at bounds it. The breaker pauses the mini-program.
        Reply::NotSent { .. } => {
            let verdict = Verdict::Park {
                waiting_for: WaitingFor::App,
                after: spread(5, 15),
            };
            Judgement {
                verdict,
                effects: Vec::new(),
                sound: false,
            }
        }
    }
}

fn judge_errcode(
    errcode: i64,
    rule: &ErrcodeRule,
    notification: &Notification,
    policy: &RetryPolicy,
    now: DateTime<Utc>,
) -> Judgement {
    // Success is not up to the table.
    let disposition = if errcode == 0 {
        Disposition::Sent
    } else {
        rule.disposition
    };
    let until = rule.pause.unwrap_or(PauseUntil::After(PAUSE));
    let mut effects = Vec::new();
    let verdict = match disposition {
        Disposition::Sent => Verdict::Sent,
        // A long-term message spends no credit: that there is none means that the user turned it off. A row in doubt ends.
        Disposition::Dead
            if notification.kind == Kind::LongTerm
                && rule.credit == Credit::Gone
                && !notification.in_doubt =>
        {
            Verdict::Park {
                waiting_for: WaitingFor::Refused,
                after: REFUSED_LOOK,
            }
        }
        Disposition::Dead => Verdict::Dead {
            credit: rule.credit,
        },
        Disposition::Retry => {
            let least = rule.pause.map_or(Duration::ZERO, span_of);
            retry(rule, notification, policy, least)
        }
        Disposition::PauseUser => {
            let pause = park_for(until).max(Duration::from_secs(1));
            let jitter = pause.mul_f64(1.5).min(PARK_MAX).mul_f64(rand::random());
            park(
                WaitingFor::User,
                span_of(until) + jitter,
                rule,
                notification,
                policy,
                now,
            )
        }
        Disposition::RefreshToken | Disposition::PauseApp => {
            let reason = format!("errcode {errcode}");
            effects.push(pause_app(notification, until, reason, Some(errcode)));
            park(
                WaitingFor::App,
                park_for(until),
                rule,
                notification,
                policy,
                now,
            )
        }
        Disposition::PauseTemplate => {
            effects.push(Effect::PauseTemplate {
                appid: notification.appid.clone(),
                template_id: notification.template_id.clone(),
                until,
                reason: format!("errcode {errcode}"),
                errcode: Some(errcode),
            });
            park(
                WaitingFor::Template,
                park_for(until),
                rule,
                notification,
                policy,
                now,
            )
        }
    };
    let sound = !matches!(
        disposition,
        Disposition::Retry | Disposition::RefreshToken | Disposition::PauseApp
    );
    if sound && notification.probe {
        effects.push(Effect::ProbeOk {
            appid: notification.appid.clone(),
        });
    }
    Judgement {
        verdict,
        effects,
        sound,
    }
}

/// What asking for a service card's state means for a row that may have been sent. `now` is compared with its age only.
pub fn judge_read_back(
    notification: &Notification,
    shown: Result<Standing, Reply>,
    rules: &ErrcodeTable,
    now: DateTime<Utc>,
) -> (Outcome, Vec<Effect>) {
    let unsent = |verdict, reason| Outcome::unsent(notification.id, verdict, Some(reason));
    let mut effects = Vec::new();
    let reply = match shown {
        Ok(standing) => {
            if notification.probe {
                let appid = notification.appid.clone();
                effects.push(Effect::ProbeOk { appid });
            }
            let verdict = match standing {
                Standing::Same => Verdict::Found,
                // Later ones too: only the state machine knows whether this state may still follow. WeChat says 85439 if not.
                _ => Verdict::NotFound,
            };
            let reason = format!("read back: {}", standing.in_words());
            return (unsent(verdict, reason), effects);
        }
        Err(reply) => reply,
    };
    let mut verdict = if now - notification.waiting_since > PARKS_UNCOUNTED_FOR {
        Verdict::Dead {
            credit: Credit::Unknown,
        }
    } else {
        Verdict::Park {
            waiting_for: WaitingFor::Doubt,
            after: spread(5, 15),
        }
    };
    if let Reply::Answered { errcode, .. } = &reply {
        let rule = rules.rule(*errcode);
        match rule.disposition {
            Disposition::PauseApp => {
                let until = rule.pause.unwrap_or(PauseUntil::After(PAUSE));
                let reason = format!("errcode {errcode}");
                effects.push(pause_app(notification, until, reason, Some(*errcode)));
            }
            // The code is unknown, so no update of it can have arrived.
            _ if *errcode == card::NO_SUCH_CODE => {
                let reason = "read back: WeChat does not know the code".to_owned();
                return (unsent(Verdict::NotFound, reason), effects);
            }
            // It will never be shown.
            Disposition::Dead => {
                verdict = Verdict::Dead {
                    credit: Credit::Unknown,
                };
            }
            _ => {}
        }
    }
    let mut outcome = outcome_of(notification.id, &reply, verdict);
    let failure = outcome.reason.take().or_else(|| outcome.errmsg.clone());
    let failure = failure.unwrap_or_else(|| "WeChat refused".to_owned());
    outcome.reason = Some(format!(
        "the card's state could not be read back: {failure}"
    ));
    (outcome, effects)
}

/// What an illegal state comes to, by the state that WeChat shows; `None`: as the errcode's rule says.
fn verdict_of_illegal_state(
    shown: Option<Standing>,
    notification: &Notification,
    rules: &ErrcodeTable,
    policy: &RetryPolicy,
) -> Option<Verdict> {
    match shown {
        Some(Standing::Same | Standing::SameStateOtherwise | Standing::Later) => {
            Some(Verdict::Found)
        }
        Some(Standing::Earlier | Standing::Nothing) => None,
        None => {
            let rule = rules.rule(card::ILLEGAL_STATE);
            Some(retry(rule, notification, policy, Duration::ZERO))
        }
    }
}

fn is_illegal_state(reply: &Reply, notification: &Notification) -> bool {
    card::reads_back(notification)
        && matches!(reply, Reply::Answered { errcode, .. } if *errcode == card::ILLEGAL_STATE)
}

/// No host of WeChat's could be connected to.
fn unreachable(reason: &str) -> String {
    format!("WeChat cannot be reached: {reason}")
}

/// A retry, or death when this was the last attempt or the code's own retries are used up.
fn retry(
    rule: &ErrcodeRule,
    notification: &Notification,
    policy: &RetryPolicy,
    after_min: Duration,
) -> Verdict {
    let is_last = notification.attempts.saturating_add(1) >= notification.attempts_max;
    let code_is_used_up = rule
        .retries_max
        .is_some_and(|most| notification.attempts >= most);
    if is_last || code_is_used_up {
        return Verdict::Dead {
            credit: rule.credit,
        };
    }
    let attempt = u32::from(notification.attempts.unsigned_abs()) + 1;
    Verdict::Retry {
        after: policy.wait_after(attempt).max(after_min),
    }
}

/// A park, or a counted retry when the row has been waiting for a day.
fn park(
    waiting_for: WaitingFor,
    after: Duration,
    rule: &ErrcodeRule,
    notification: &Notification,
    policy: &RetryPolicy,
    now: DateTime<Utc>,
) -> Verdict {
    if now - notification.waiting_since > PARKS_UNCOUNTED_FOR {
        return retry(rule, notification, policy, after);
    }
    Verdict::Park { waiting_for, after }
}

/// How long a row waits when its mini-program or template is paused.
fn park_for(until: PauseUntil) -> Duration {
    match until {
        PauseUntil::After(span) => span.min(PARK_MAX),
        PauseUntil::NextMinute => Duration::from_secs(60),
        PauseUntil::Operator | PauseUntil::ChinaMidnight => PARK_MAX,
    }
}

fn span_of(until: PauseUntil) -> Duration {
    match until {
        PauseUntil::After(span) => span,
        _ => park_for(until),
    }
}

/// The pause when WeChat refuses a token. Every rule leads to one: without a token nothing is sent.
fn pause_for_token(rule: &ErrcodeRule) -> PauseUntil {
    match (rule.disposition, rule.pause) {
        (Disposition::PauseApp | Disposition::RefreshToken, Some(pause)) => pause,
        (Disposition::Retry, _) if rule.errcode.is_some() => {
            PauseUntil::After(Duration::from_secs(10))
        }
        (Disposition::Retry, _) => PauseUntil::After(Duration::from_secs(60)),
        _ => PauseUntil::After(PAUSE),
    }
}

fn pause_app(
    notification: &Notification,
    until: PauseUntil,
    reason: String,
    errcode: Option<i64>,
) -> Effect {
    Effect::PauseApp {
        appid: notification.appid.clone(),
        until,
        reason,
        errcode,
    }
}

fn refuses_token(reply: &Reply, rules: &ErrcodeTable) -> bool {
    matches!(reply, Reply::Answered { errcode, .. }
        if *errcode != 0 && rules.rule(*errcode).disposition == Disposition::RefreshToken)
}

fn released(notification: &Notification) -> Ended {
    let reason = Some("WeChat refused the access token; it is being replaced".to_owned());
    Ended::Unsent(
        Outcome::unsent(notification.id, Verdict::Release, reason),
        Vec::new(),
    )
}

/// Between `from` and `to` seconds.
fn spread(from: u32, to: u32) -> Duration {
    let (from, to) = (f64::from(from), f64::from(to));
    Duration::from_secs_f64(from + (to - from) * rand::random::<f64>())
}

fn outcome_of(notification_id: i64, reply: &Reply, verdict: Verdict) -> Outcome {
    let millis = |took: &Duration| Some(i32::try_from(took.as_millis()).unwrap_or(i32::MAX));
    let http = |status: u16| i16::try_from(status).ok();
    let unsent = Outcome::unsent(notification_id, verdict, None);
    match reply {
        Reply::Answered {
            errcode,
            errmsg,
            rid,
            msgid,
            http_status,
            took,
        } => Outcome {
            errcode: Some(*errcode),
            errmsg: errmsg.clone(),
            rid: rid.clone(),
            msgid: *msgid,
            http_status: http(*http_status),
            response_ms: millis(took),
            ..unsent
        },
        Reply::NotSent { reason, took } => Outcome {
            reason: Some(reason.clone()),
            response_ms: millis(took),
            ..unsent
        },
        Reply::PossiblySent {
            reason,
            http_status,
            took,
        } => Outcome {
            reason: Some(reason.clone()),
            http_status: http_status.and_then(http),
            response_ms: millis(took),
            ..unsent
        },
    }
}

/// A producer can have any number of templates refused by naming them.
static TEMPLATE_PAUSES: Restraint = Restraint::new(10);

/// A business outcome such as 43101 is no trouble; a pause is.
fn report(outcome: &Outcome, effects: &[Effect]) {
    let id = outcome.notification_id;
    if outcome.verdict != Verdict::Sent {
        let reason = outcome.reason.as_deref().unwrap_or_default();
        debug!(errcode = outcome.errcode, verdict = ?outcome.verdict, "Notification {id} was not sent {reason}");
    }
    for effect in effects {
        match effect {
            Effect::PauseApp {
                appid,
                until,
                reason,
                errcode,
            } => {
                warn!(%appid, errcode, ?until, "Pausing mini-program {appid}: {reason}");
            }
            Effect::PauseTemplate {
                appid,
                template_id,
                until,
                reason,
                errcode,
            } => {
                if let Some(left_out) = TEMPLATE_PAUSES.admit() {
                    warn!(%appid, errcode, ?until, left_out, "Pausing template {template_id}: {reason}");
                }
            }
            Effect::ProbeOk { appid } => debug!(%appid, "The probe of {appid} got a sound answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{notification::sample, wechat::errcode::ErrcodeTable};

    fn rule(errcode: i64, disposition: Disposition, pause: Option<PauseUntil>) -> ErrcodeRule {
        ErrcodeRule {
            errcode: Some(errcode),
            disposition,
            credit: Credit::Kept,
            pause,
            retries_max: None,
            escalation: None,
        }
    }

    const MINUTE: PauseUntil = PauseUntil::After(Duration::from_secs(60));

    fn rules() -> ErrcodeTable {
        ErrcodeTable::new([
            rule(-1, Disposition::Retry, None),
            rule(40001, Disposition::RefreshToken, Some(MINUTE)),
            rule(
                45009,
                Disposition::PauseApp,
                Some(PauseUntil::ChinaMidnight),
            ),
            rule(
                40037,
                Disposition::PauseTemplate,
                Some(PauseUntil::Operator),
            ),
            rule(
                43108,
                Disposition::PauseUser,
                Some(PauseUntil::After(Duration::from_secs(2))),
            ),
            rule(43101, Disposition::Dead, None),
            ErrcodeRule {
                retries_max: Some(1),
                ..rule(44002, Disposition::Retry, None)
            },
            // A mistake of an operator.
            rule(0, Disposition::Dead, None),
        ])
    }

    fn answered(errcode: i64) -> Reply {
        Reply::Answered {
            errcode,
            errmsg: None,
            rid: None,
            msgid: None,
            http_status: 200,
            took: Duration::from_millis(80),
        }
    }

    fn judged(reply: &Reply, change: impl FnOnce(&mut Notification)) -> Judgement {
        let mut notification = sample();
        change(&mut notification);
        judge(
            reply,
            &rules(),
            &notification,
            &RetryPolicy::default(),
            Utc::now(),
        )
    }

    fn is_retry(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Retry { .. })
    }

    #[test]
    fn zero_is_sent_whatever_the_table_says() {
        let judgement = judged(&answered(0), |_| {});
        assert_eq!(judgement.verdict, Verdict::Sent);
        assert_eq!(judgement.effects, []);
    }

    #[test]
    fn a_refused_message_is_dead_with_the_rules_credit() {
        let verdict = judged(&answered(43101), |row| row.in_doubt = true).verdict;
        assert_eq!(
            verdict,
            Verdict::Dead {
                credit: Credit::Kept
            }
        );
    }

    #[test]
    fn a_long_term_message_without_subscription_waits_for_the_next_accept_however_old_it_is() {
        let gone = ErrcodeRule {
            credit: Credit::Gone,
            ..rule(43101, Disposition::Dead, None)
        };
        let judged = |change: fn(&mut Notification)| {
            let mut row = sample();
            row.kind = Kind::LongTerm;
            row.waiting_since = Utc::now() - TimeDelta::days(400);
            row.attempts = row.attempts_max - 1;
            change(&mut row);
            judge_errcode(43101, &gone, &row, &RetryPolicy::default(), Utc::now()).verdict
        };
        let waits = |verdict| {
            matches!(
                verdict,
                Verdict::Park {
                    waiting_for: WaitingFor::Refused,
                    ..
                }
            )
        };
        assert!(waits(judged(|_| {})));
        for change in [
            (|row: &mut Notification| row.kind = Kind::OneTime) as fn(&mut Notification),
            |row| row.in_doubt = true,
        ] {
            assert_eq!(
                judged(change),
                Verdict::Dead {
                    credit: Credit::Gone
                }
            );
        }
    }

    #[test]
    fn a_retry_on_the_last_attempt_is_dead() {
        assert!(is_retry(
            judged(&answered(-1), |row| row.attempts = 6).verdict
        ));
        for attempts in [7, 8, 100, i16::MAX] {
            let verdict = judged(&answered(-1), |row| row.attempts = attempts).verdict;
            assert_eq!(
                verdict,
                Verdict::Dead {
                    credit: Credit::Kept
                },
                "{attempts}"
            );
        }
    }

    #[test]
    fn a_code_with_few_retries_dies_before_the_attempts_are_used_up() {
        assert!(is_retry(judged(&answered(44002), |_| {}).verdict));
        let verdict = judged(&answered(44002), |row| row.attempts = 1).verdict;
        assert_eq!(
            verdict,
            Verdict::Dead {
                credit: Credit::Kept
            }
        );
    }

    #[test]
    fn an_unlisted_code_is_retried_three_times() {
        for attempts in 0..3 {
            assert!(is_retry(
                judged(&answered(77_777), |row| row.attempts = attempts).verdict
            ));
        }
        let verdict = judged(&answered(77_777), |row| row.attempts = 3).verdict;
        assert_eq!(
            verdict,
            Verdict::Dead {
                credit: Credit::Unknown
            }
        );
    }

    #[test]
    fn pauses_park_the_row_and_say_what_is_paused() {
        for (errcode, waiting_for, after) in [
            (45009, WaitingFor::App, PARK_MAX),
            (40001, WaitingFor::App, Duration::from_secs(60)),
            (40037, WaitingFor::Template, PARK_MAX),
        ] {
            let judgement = judged(&answered(errcode), |_| {});
            assert_eq!(
                judgement.verdict,
                Verdict::Park { waiting_for, after },
                "{errcode}"
            );
            assert_eq!(judgement.effects.len(), 1, "{errcode}");
        }
        assert!(matches!(
            judged(&answered(45009), |_| {}).effects[0],
            Effect::PauseApp {
                until: PauseUntil::ChinaMidnight,
                errcode: Some(45009),
                ..
            }
        ));
        assert!(matches!(
            judged(&answered(40037), |_| {}).effects[0],
            Effect::PauseTemplate {
                until: PauseUntil::Operator,
                ..
            }
        ));
    }

    #[test]
    fn two_calls_for_one_user_wait_two_to_five_seconds_without_an_effect() {
        for _ in 0..200 {
            let judgement = judged(&answered(43108), |_| {});
            let Verdict::Park {
                waiting_for: WaitingFor::User,
                after,
            } = judgement.verdict
            else {
                panic!("{judgement:?}");
            };
            assert!((2.0..=5.0).contains(&after.as_secs_f64()), "{after:?}");
            assert_eq!(judgement.effects, []);
        }
    }

    #[test]
    fn parks_count_an_attempt_once_the_row_has_waited_for_a_day() {
        let old = |row: &mut Notification| row.waiting_since = Utc::now() - TimeDelta::hours(25);
        for errcode in [43108, 45009, 40037] {
            assert!(
                is_retry(judged(&answered(errcode), old).verdict),
                "{errcode}"
            );
        }
        let Verdict::Retry { after } = judged(&answered(45009), old).verdict else {
            panic!()
        };
        assert!(
            after >= PARK_MAX,
            "a counted park is not shorter than the park: {after:?}"
        );
    }

    #[test]
    fn no_connection_never_uses_up_attempts_however_old_the_row() {
        let reply = Reply::NotSent {
            reason: "no connection".into(),
            took: Duration::ZERO,
        };
        let verdict = judged(&reply, |row| {
            row.attempts = 7;
            row.waiting_since = Utc::now() - TimeDelta::days(30);
        });
        assert!(matches!(
            verdict.verdict,
            Verdict::Park {
                waiting_for: WaitingFor::App,
                ..
            }
        ));
    }

    #[test]
    fn a_lost_answer_is_in_doubt_even_on_the_last_attempt() {
        let reply = Reply::PossiblySent {
            reason: "no reply in time".into(),
            http_status: None,
            took: Duration::from_secs(10),
        };
        assert_eq!(
            judged(&reply, |row| row.attempts = 7).verdict,
            Verdict::InDoubt
        );
    }

    #[test]
    fn only_a_sound_answer_ends_a_probe() {
        let lost = Reply::PossiblySent {
            reason: "x".into(),
            http_status: Some(502),
            took: Duration::ZERO,
        };
        let unsent = Reply::NotSent {
            reason: "x".into(),
            took: Duration::ZERO,
        };
        for (reply, ends) in [
            (answered(0), true),
            (answered(43101), true),
            (answered(43108), true),
            (answered(40037), true),
            (answered(-1), false),
            (answered(77_777), false),
            (answered(40001), false),
            (answered(45009), false),
            (lost, false),
            (unsent, false),
        ] {
            let judgement = judged(&reply, |row| row.probe = true);
            let probe_ok = judgement
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::ProbeOk { .. }));
            assert_eq!(probe_ok, ends, "{reply:?}");
            let unasked = judged(&reply, |row| row.probe = false);
            assert!(
                !unasked
                    .effects
                    .iter()
                    .any(|effect| matches!(effect, Effect::ProbeOk { .. }))
            );
        }
    }
}
