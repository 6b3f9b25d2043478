//! The operations that script the fake and read its ledger: in process here, over HTTP in `control/http.rs`.
//!
//! Start at [`Control`].

mod http;
mod operation;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::account::{AppSpec, TemplateSpec};
use super::api::Api;
use super::callback::{CallbackSpec, PUNISHMENT_EVENT};
use super::card::{CARD_FAILED_EVENT, CardCodeSpec, CardTypeSpec, CardView};
use super::device::DeviceSubscription;
use super::ledger::{Counts, Ledger};
use super::quota::Limits;
use super::script::{Capacity, Rule};
use super::state::Shared;
pub(super) use http::{ControlRequest, answer, list};
pub use operation::{OPERATIONS, OperationLine};

/// Where control requests go, before the operation's name.
pub(super) const CONTROL_PREFIX: &str = "/_control/";

/// A handle on a running fake; clones act on the same fake.
#[derive(Debug, Clone)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
}

/// The awaited number of sends was not reached in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} for {wanted} sends, saw {seen}")]
pub struct WaitTimedOut {
    /// How many sends were awaited.
    pub wanted: u64,
    /// How many had come.
    pub seen: u64,
    /// How long was waited.
    pub waited: Duration,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Control { shared }
    }

    /// Gives the user credits for the template; from then on the pair is counted.
    pub fn grant(&self, appid: &str, openid: &str, template_id: &str, credits: u64) {
        let mut state = self.shared.lock();
        state.know_user(appid, openid);
        state.pair(appid, openid, template_id).grant(credits);
    }

    /// Sets whether the user refuses the template; while so, sends get 43101.
    pub fn refuse(&self, appid: &str, openid: &str, template_id: &str, refuses: bool) {
        let mut state = self.shared.lock();
        state.know_user(appid, openid);
        state.pair(appid, openid, template_id).refuses = refuses;
    }

    /// Makes an openid known in strict mode, without credits.
    pub fn add_user(&self, appid: &str, openid: &str) {
        self.shared.lock().know_user(appid, openid);
    }

    /// Adds an app or replaces its settings; its users, credits and tokens stay.
    pub fn add_app(&self, spec: AppSpec) {
        let mut state = self.shared.lock();
        let appid = spec.appid.clone();
        state.app(&appid).spec = Some(spec);
    }

    /// Adds a template to an app or replaces it.
    pub fn add_template(&self, appid: &str, spec: TemplateSpec) {
        self.shared.lock().app(appid).add_template(spec);
    }

    /// Removes a template, known or not: its sends get 40037 until it is added again.
    pub fn remove_template(&self, appid: &str, template_id: &str) {
        self.shared.lock().app(appid).remove_template(template_id);
    }

    /// Bans a template (43107) or lifts the ban; an unknown one is added without fields.
    pub fn ban_template(&self, appid: &str, template_id: &str, banned: bool) {
        self.shared.lock().set_banned(appid, template_id, banned);
    }

    /// Lets only these addresses fetch tokens of an added app (else 40164); `None`: anybody.
    pub fn set_ip_whitelist(&self, appid: &str, addresses: Option<Vec<IpAddr>>) {
        self.edit_app(appid, |spec| spec.ip_whitelist = addresses);
    }

    /// Makes token calls of an app wait for its administrator (89503).
    pub fn require_admin_confirmation(&self, appid: &str, required: bool) {
        self.edit_app(appid, |spec| spec.admin_confirmation = required);
    }

    /// Freezes the app's secret (40243) or unfreezes it.
    pub fn freeze_secret(&self, appid: &str, frozen: bool) {
        self.edit_app(appid, |spec| spec.secret_frozen = frozen);
    }

    /// Replaces the words whose presence in a value gets 45168.
    pub fn set_sensitive_words<W: Into<String>>(&self, words: impl IntoIterator<Item = W>) {
        self.shared.lock().sensitive_words = words.into_iter().map(Into::into).collect();
    }

    /// Sets where and how an app's events are pushed; `None`: as every app's, if anywhere.
    pub fn set_callback(&self, appid: &str, spec: Option<CallbackSpec>) {
        self.shared.lock().app(appid).callback = spec;
    }

    /// Pushes the event of a pop-up the user answered: each template with `accept` or `reject`. Only the event: what WeChat
    /// would also do, [`Control::grant`] and [`Control::refuse`] do.
    pub fn push_popup(&self, appid: &str, openid: &str, answers: &[(&str, &str)]) {
        let entry = |(template_id, status): &(&str, &str)| {
            vec![
                ("TemplateId", (*template_id).to_owned()),
                ("SubscribeStatusString", (*status).to_owned()),
                ("PopupScene", "0".to_owned()),
            ]
        };
        let entries = answers.iter().map(entry).collect();
        self.push(appid, "subscribe_msg_popup_event", openid, entries);
    }

    /// Pushes the event of a user who turned templates off (or on) in the card's menu.
    pub fn push_change(&self, appid: &str, openid: &str, answers: &[(&str, &str)]) {
        let entry = |(template_id, status): &(&str, &str)| {
            vec![
                ("TemplateId", (*template_id).to_owned()),
                ("SubscribeStatusString", (*status).to_owned()),
            ]
        };
        let entries = answers.iter().map(entry).collect();
        self.push(appid, "subscribe_msg_change_event", openid, entries);
    }

    /// A code as `wx.login` gives it to this user's page: for one exchange, within 5 minutes.
    pub fn issue_login_code(&self, appid: &str, openid: &str) -> String {
        self.shared.lock().issue_login_code(appid, openid)
    }

    /// Sets whether WeChat blocks the user's logins as risky (40226).
    pub fn block_login(&self, appid: &str, openid: &str, blocked: bool) {
        self.shared.lock().app(appid).user(openid).login_blocked = blocked;
    }

    /// The user subscribes to a device's messages: any number, for this sn and model.
    pub fn subscribe_device(
        &self,
        appid: &str,
        openid: &str,
        template_id: &str,
        sn: &str,
        model_id: &str,
    ) {
        let mut state = self.shared.lock();
        state.know_user(appid, openid);
        let subscription = DeviceSubscription::new(openid, template_id, sn, model_id);
        state.app(appid).devices.insert(subscription);
    }

    /// Sets the states of one kind of service card; until then any state may follow a smaller one.
    pub fn add_card_type(&self, appid: &str, spec: CardTypeSpec) {
        let mut state = self.shared.lock();
        let notify_type = spec.notify_type.to_string();
        state.app(appid).card_types.insert(notify_type, spec);
    }

    /// A user pays or taps: from now on the code may carry a service card. Open mode takes unknown codes too.
    pub fn issue_card_code(&self, appid: &str, spec: CardCodeSpec) {
        self.shared.lock().issue_card_code(appid, spec);
    }

    /// What WeChat shows of a service card; `None`: the code is unknown.
    pub fn card(&self, appid: &str, notify_code: &str) -> Option<CardView> {
        let state = self.shared.lock();
        let card = state.apps.get(appid)?.cards.get(notify_code)?;
        Some(card.view())
    }

    /// Sets a card's `code_state`: 0 normal, 1 at risk, 2 abnormal, 10 refused by the user. From 2 on updates get 85436.
    pub fn set_card_code_state(&self, appid: &str, notify_code: &str, code_state: i64) {
        if let Some(card) = self.shared.lock().app(appid).cards.get_mut(notify_code) {
            card.code_state = code_state;
        }
    }

    /// Pushes the event that tells of a card whose push failed; WeChat writes its code with the prefix `p1.`.
    pub fn push_card_failure(&self, appid: &str, notify_code: &str, fail_ret: i64, fail_msg: &str) {
        let entry = self
            .shared
            .lock()
            .card_failure(appid, notify_code, fail_ret, fail_msg);
        if let Some((openid, entry)) = entry {
            self.push(appid, CARD_FAILED_EVENT, &openid, vec![entry]);
        }
    }

    /// Pushes WeChat's word that it punished the mini-program; `event_type` 1 is a warning, 2 a ban of functions.
    pub fn push_punishment(
        &self,
        appid: &str,
        event_type: u8,
        reason: &str,
        banned_functions: Option<&str>,
    ) {
        let now = self.shared.lock().now().timestamp();
        let mut entry = vec![
            ("event_type", event_type.to_string()),
            ("punish_id", format!("{now}{event_type}")),
            ("appid", appid.to_owned()),
            ("punish_time", now.to_string()),
            ("illegal_reason", reason.to_owned()),
        ];
        if let Some(functions) = banned_functions {
            entry.push(("banned_function_names", functions.to_owned()));
            entry.push(("banned_days", "7".to_owned()));
        }
        self.push(appid, PUNISHMENT_EVENT, "", vec![entry]);
    }

    fn push(
        &self,
        appid: &str,
        event: &'static str,
        openid: &str,
        entries: Vec<Vec<(&'static str, String)>>,
    ) {
        let push = self.shared.lock().push(appid, event, openid, entries);
        if let Some(push) = push {
            // Fails when the fake has stopped: then nothing is pushed.
            let _ = self.shared.pushes.send(push);
        }
    }

    /// Adds a rule behind those in force.
    pub fn script(&self, rule: Rule) {
        self.shared.lock().script.add(rule);
    }

    /// Removes every rule; calls already caught play their fault to the end.
    pub fn clear_scripts(&self) {
        self.shared.lock().script.clear();
    }

    /// What happened so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.lock().ledger()
    }

    /// The totals alone, cheaply.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts.clone()
    }

    /// A foreign system forces a refresh until every token known here is dead (40001).
    pub fn steal_token(&self, appid: &str) {
        self.shared.lock().steal_token(appid);
    }

    /// The app's tokens expire now (42001).
    pub fn expire_token(&self, appid: &str) {
        self.shared.lock().expire_token(appid);
    }

    /// How long every call takes. Half of it passes before the call is judged, half after: a caller
    /// that leaves in the first half is never judged, in the second half its message was sent.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.lock().latency = latency;
    }

    /// Serves only so many sends at once; `None` lifts it. Sends that wait for a place when it changes wait for one of before.
    pub fn set_capacity(&self, capacity: Option<Capacity>) {
        self.shared.lock().capacity = capacity.map(|capacity| {
            let places = Arc::new(Semaphore::new(capacity.at_once));
            (capacity, places)
        });
    }

    /// Sets the quotas for the app's sends; `None` is without limit. What was used stays used.
    pub fn set_quota(&self, appid: &str, daily: Option<u64>, per_minute: Option<u64>) {
        self.set_limits(appid, Api::Send, Limits { daily, per_minute });
    }

    /// As [`Control::set_quota`], for the calls to another path. `false`: the fake does not know the path.
    pub fn set_quota_of(
        &self,
        appid: &str,
        path: &str,
        daily: Option<u64>,
        per_minute: Option<u64>,
    ) -> bool {
        let api = Api::from_path(path);
        if let Some(api) = api {
            self.set_limits(appid, api, Limits { daily, per_minute });
        }
        api.is_some()
    }

    fn set_limits(&self, appid: &str, api: Api, limits: Limits) {
        self.shared.lock().app(appid).limits.insert(api, limits);
    }

    /// Moves the fake's clock forward: tokens age, quotas and budgets return. Delays in progress
    /// do not shorten.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.lock().advance_clock(by);
    }

    /// From now on sends arrive, are recorded as arrived, and wait. A second send for a user whose
    /// first one waits does not: it is judged at once (43108).
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets the waiting sends go on.
    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Back to the state at the start: ledger, apps, credits, tokens, rules, clock, latency. Sends
    /// in flight are answered but no longer recorded.
    pub fn reset(&self) {
        self.release();
        self.shared.lock().reset();
        self.shared.moved.notify_waiters();
    }

    /// Waits until `sends` sends have arrived since the start or the last reset. Has no time limit.
    pub async fn wait_for_calls(&self, sends: u64) {
        self.wait_until(|counts| counts.sends_arrived >= sends)
            .await;
    }

    /// Waits until the fake has finished with `sends` sends since the start or the last reset:
    /// answered them, or played the fault that withholds the answer.
    ///
    /// # Errors
    ///
    /// [`WaitTimedOut`] when `timeout` passed first.
    pub async fn wait_for_sends(&self, sends: u64, timeout: Duration) -> Result<(), WaitTimedOut> {
        let answered = self.wait_until(|counts| counts.sends_answered >= sends);
        match tokio::time::timeout(timeout, answered).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let seen = self.counts().sends_answered;
                Err(WaitTimedOut {
                    wanted: sends,
                    seen,
                    waited: timeout,
                })
            }
        }
    }

    /// Waits until the totals satisfy `reached`. Has no time limit.
    pub async fn wait_until(&self, reached: impl Fn(&Counts) -> bool) {
        loop {
            let mut moved = std::pin::pin!(self.shared.moved.notified());
            // Registered before looking, so that a change between the look and the wait is not missed.
            moved.as_mut().enable();
            if reached(&self.shared.lock().counts) {
                return;
            }
            moved.await;
        }
    }

    fn edit_app(&self, appid: &str, edit: impl FnOnce(&mut AppSpec)) {
        let mut state = self.shared.lock();
        // In open mode an app becomes known by its first call, with any secret; restricting one
        // must not change that, so the empty secret stands for "any".
        edit(
            state
                .app(appid)
                .spec
                .get_or_insert_with(|| AppSpec::new(appid, "")),
        );
    }
}
