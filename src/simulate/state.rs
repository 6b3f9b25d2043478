//! Everything the fake knows, behind one mutex that is never held across an await.
//!
//! Start at [`State::arrive`], then [`State::judge`]; what each call does is in `send`, `calls`, `card`, `device`, `login` and
//! `template`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use super::account::{App, Pair, TemplateSpec};
use super::api::Api;
use super::callback::{CallbackSpec, CallbackTiming, PUNISHMENT_EVENT, Push, PushedEvent};
use super::card::CARD_FAILED_EVENT;
use super::ledger::{Call, Counts, Ledger};
use super::login::LoginCode;
use super::quota::Exceeded;
use super::reply::{Refusal, Reply, mint_rid};
use super::script::{Action, Capacity, Script, Subject};
use super::send::{Inquiry, Request};
use super::token::{Standing, Tokens};
use super::{LedgerDetail, Registration, SimulateOptions};

/// How many failed calls `rid/get` remembers.
const RIDS_MAX: usize = 10_000;

/// What connections and controls share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Whether sends wait at the gate.
    pub held: watch::Sender<bool>,
    /// Notified whenever the totals of sends or callbacks change.
    pub moved: Notify,
    /// Events on their way to callback URLs.
    pub pushes: mpsc::UnboundedSender<Push>,
}

impl Shared {
    pub fn new(options: SimulateOptions, pushes: mpsc::UnboundedSender<Push>) -> Self {
        Shared {
            state: Mutex::new(State::new(options)),
            held: watch::Sender::new(false),
            moved: Notify::new(),
            pushes,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("counts", &self.lock().counts)
            .finish_non_exhaustive()
    }
}

/// A failed call, for `rid/get`.
pub(super) struct RidRecord {
    pub rid: String,
    pub appid: String,
    pub at: DateTime<Utc>,
    pub url: String,
    pub body: String,
    pub reply: String,
    pub client_ip: String,
}

/// Everything the fake knows.
pub(super) struct State {
    pub options: SimulateOptions,
    pub apps: HashMap<String, App>,
    pub tokens: Tokens,
    pub script: Script,
    pub latency: Duration,
    /// How many sends are served at once, and the places for them.
    pub capacity: Option<(Capacity, Arc<Semaphore>)>,
    /// Sends that were let in and are not answered.
    sends_inside: usize,
    pub sensitive_words: Vec<String>,
    pub counts: Counts,
    pub rng: StdRng,
    calls: Vec<Call>,
    /// How often the state was reset; calls from before it are no longer recorded.
    epoch: u64,
    clock_offset: TimeDelta,
    last_msgid: i64,
    pub rids: VecDeque<RidRecord>,
    /// Login codes that were issued.
    pub logins: HashMap<String, LoginCode>,
}

/// What the state remembers of a call between its arrival and its end.
pub(super) struct Arrived {
    epoch: u64,
    index: Option<usize>,
    appid: String,
    /// This call made the user busy and must free them.
    entered: bool,
    pub concurrent: bool,
    pub action: Option<Action>,
    pub latency: Duration,
    /// Where to get a place from before being served.
    pub places: Option<Arc<Semaphore>>,
    is_inside: bool,
}

/// How a call ended.
pub(super) struct Ending<'a> {
    /// The true reply, unless the fault struck before the call was judged.
    pub reply: Option<&'a Reply>,
    /// The errcode put on the wire instead of the reply's.
    pub errcode: Option<i64>,
    pub fault: Option<&'static str>,
    /// Something was handed to the connection, or it was reset.
    pub answered: bool,
    /// The true reply reached an open connection.
    pub delivered: bool,
}

impl State {
    pub fn new(options: SimulateOptions) -> Self {
        let rng = match options.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::seed_from_u64(rand::random()),
        };
        let mut state = State {
            apps: HashMap::new(),
            tokens: Tokens::default(),
            script: Script::default(),
            latency: Duration::ZERO,
            capacity: None,
            sends_inside: 0,
            sensitive_words: options.sensitive_words.clone(),
            counts: Counts::default(),
            rng,
            calls: Vec::new(),
            epoch: 0,
            clock_offset: TimeDelta::zero(),
            // Above 2^53, below i64::MAX for centuries, and above those of an earlier run.
            last_msgid: 3_000_000_000_000_000_000 + Utc::now().timestamp_micros() / 4,
            rids: VecDeque::new(),
            logins: HashMap::new(),
            options,
        };
        for spec in state.options.apps.clone() {
            let appid = spec.appid.clone();
            state.app(&appid).spec = Some(spec);
        }
        state
    }

    pub fn reset(&mut self) {
        let (epoch, last_msgid) = (self.epoch + 1, self.last_msgid);
        *self = State {
            epoch,
            last_msgid,
            ..State::new(self.options.clone())
        };
    }

    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.clock_offset
    }

    pub fn advance_clock(&mut self, by: Duration) {
        let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::days(36_500));
        self.clock_offset += by;
    }

    pub fn is_open(&self) -> bool {
        self.options.registration == Registration::Open
    }

    pub fn app(&mut self, appid: &str) -> &mut App {
        if !self.apps.contains_key(appid) {
            self.apps.insert(appid.to_owned(), App::default());
        }
        self.apps
            .get_mut(appid)
            .expect("inserted above if it was missing")
    }

    pub fn pair(&mut self, appid: &str, openid: &str, template_id: &str) -> &mut Pair {
        let credits = self.options.credits_default;
        self.app(appid).user(openid).pair(template_id, credits)
    }

    pub fn know_user(&mut self, appid: &str, openid: &str) {
        self.app(appid).user(openid).known = true;
    }

    pub fn set_banned(&mut self, appid: &str, template_id: &str, banned: bool) {
        let templates = &mut self.app(appid).templates;
        let template = templates
            .entry(template_id.to_owned())
            .or_insert_with(|| TemplateSpec::new(template_id, Vec::<String>::new()));
        template.banned = banned;
    }

    pub fn steal_token(&mut self, appid: &str) {
        let now = self.now();
        self.tokens.steal(appid, now, &mut self.rng);
    }

    pub fn expire_token(&mut self, appid: &str) {
        let now = self.now();
        self.tokens.expire(appid, now);
    }

    /// An increasing id above 2^53.
    pub fn next_msgid(&mut self) -> i64 {
        self.last_msgid += self.rng.random_range(1..1000);
        self.last_msgid
    }

    pub fn ledger(&self) -> Ledger {
        let mut pairs: Vec<_> = self
            .apps
            .iter()
            .flat_map(|(appid, app)| app.users.iter().map(move |user| (appid, user)))
            .flat_map(|(appid, (openid, user))| {
                user.pairs
                    .iter()
                    .map(move |(template_id, pair)| pair.sum(appid, openid, template_id))
            })
            .collect();
        pairs.sort_by(|a, b| {
            (&a.appid, &a.openid, &a.template_id).cmp(&(&b.appid, &b.openid, &b.template_id))
        });
        Ledger {
            calls: self.calls.clone(),
            counts: self.counts.clone(),
            pairs,
            tokens: self.tokens.minted().to_vec(),
        }
    }

    /// Records the arrival of a call, makes its user busy and asks the rules for an action.
    pub fn arrive(&mut self, inquiry: &Inquiry<'_>) -> Arrived {
        let is_send = inquiry.api.is_message();
        let appid = self.caller(inquiry).to_owned();
        let (openid, template_id) = inquiry.receiver();
        self.counts.calls += 1;
        self.counts.sends_arrived += u64::from(is_send);
        self.counts.token_calls += u64::from(matches!(inquiry.api, Api::Token | Api::StableToken));
        let (mut entered, mut concurrent) = (false, false);
        if is_send && !appid.is_empty() && !openid.is_empty() {
            self.pair(&appid, openid, template_id).arrived += 1;
            let busy = &mut self.app(&appid).user(openid).busy;
            concurrent = std::mem::replace(busy, true);
            entered = !concurrent;
        }
        let subject = Subject {
            path: inquiry.api.path(),
            appid: &appid,
            openid,
            template_id,
        };
        let (script, rng) = (&mut self.script, &mut self.rng);
        let mut action = script.strike(&subject, || rng.random());
        let (mut places, mut is_inside) = (None, false);
        if let Some((capacity, all)) = self.capacity.as_ref().filter(|_| is_send) {
            if capacity
                .refuses_from
                .is_some_and(|from| self.sends_inside >= from)
            {
                action = Some(capacity.refusal.clone());
            } else {
                (places, is_inside) = (Some(all.clone()), true);
                self.sends_inside += 1;
            }
        }
        let index = (self.options.ledger == LedgerDetail::Full).then(|| {
            self.calls.push(Call {
                sequence: self.counts.calls,
                path: inquiry.api.path().to_owned(),
                appid: appid.clone(),
                openid: openid.to_owned(),
                template_id: template_id.to_owned(),
                host: inquiry.host.to_owned(),
                arrived_at: self.now(),
                answered_at: None,
                errcode: None,
                fault: None,
                msgid: None,
                accepted: false,
                credit_taken: false,
                reply_delivered: false,
                concurrent,
                why_43101: None,
                data: inquiry.data(),
            });
            self.calls.len() - 1
        });
        let (epoch, latency) = (self.epoch, self.latency);
        Arrived {
            epoch,
            index,
            appid,
            entered,
            concurrent,
            action,
            latency,
            places,
            is_inside,
        }
    }

    /// Judges a call as WeChat would and notes an acceptance at once, whatever becomes of the reply.
    pub fn judge(&mut self, inquiry: &Inquiry<'_>, arrived: &Arrived) -> Reply {
        let judged = inquiry.api.judge(self, inquiry, arrived.concurrent);
        let reply = judged.unwrap_or_else(|refusal| self.refuse(&refusal, inquiry));
        if reply.errcode == 43101 && inquiry.api == Api::Send && arrived.epoch == self.epoch {
            let (openid, template_id) = inquiry.receiver();
            let why = self.pair(&arrived.appid, openid, template_id).blame_43101();
            if let Some(call) = arrived.index.and_then(|index| self.calls.get_mut(index)) {
                call.why_43101 = Some(why);
            }
        }
        if reply.accepted && arrived.epoch == self.epoch {
            self.counts.sends_accepted += 1;
            if let Some(call) = arrived.index.and_then(|index| self.calls.get_mut(index)) {
                call.errcode = Some(0);
                call.accepted = true;
                call.msgid = reply.msgid;
                call.credit_taken = reply.credit_taken;
            }
        }
        reply
    }

    /// Where an app's events go.
    fn callback(&self, appid: &str) -> Option<&CallbackSpec> {
        let own = self.apps.get(appid).and_then(|app| app.callback.as_ref());
        own.or(self.options.callback.as_ref())
    }

    /// The sent event of an accepted message, unless none is to be pushed.
    pub fn sent_push(&self, inquiry: &Inquiry<'_>, arrived: &Arrived, msgid: i64) -> Option<Push> {
        let (openid, template_id) = inquiry.receiver();
        self.sent_event(&arrived.appid, openid, template_id, msgid)
    }

    /// The sent event of a message, unless none is to be pushed.
    pub fn sent_event(
        &self,
        appid: &str,
        openid: &str,
        template_id: &str,
        msgid: i64,
    ) -> Option<Push> {
        let spec = self.callback(appid)?;
        if spec.timing == CallbackTiming::Never {
            return None;
        }
        let entry = vec![
            ("TemplateId", template_id.to_owned()),
            ("MsgID", msgid.to_string()),
            ("ErrorCode", spec.error_code.to_string()),
            ("ErrorStatus", spec.error_status.clone()),
        ];
        let event = "subscribe_msg_sent_event";
        self.push(appid, event, openid, vec![entry])
    }

    /// An event about a user, if the app has a callback URL.
    pub fn push(
        &self,
        appid: &str,
        event: &'static str,
        openid: &str,
        entries: Vec<Vec<(&'static str, String)>>,
    ) -> Option<Push> {
        let spec = self.callback(appid)?;
        let wrapper = match event {
            "subscribe_msg_popup_event" => "SubscribeMsgPopupEvent",
            "subscribe_msg_change_event" => "SubscribeMsgChangeEvent",
            _ => "SubscribeMsgSentEvent",
        };
        let pushed = PushedEvent {
            is_flat: matches!(event, CARD_FAILED_EVENT | PUNISHMENT_EVENT),
            event,
            wrapper,
            openid: openid.to_owned(),
            created: self.now().timestamp(),
            entries,
        };
        Some(Push {
            appid: appid.to_owned(),
            document: pushed.document(spec),
            spec: spec.clone(),
            done: None,
        })
    }

    /// Turns a refusal into a reply with a rid under which `rid/get` finds the call.
    pub fn refuse(&mut self, refusal: &Refusal, inquiry: &Inquiry<'_>) -> Reply {
        let now = self.now();
        let rid = mint_rid(now, &mut self.rng);
        let reply = Reply::refused(refusal.errcode, &refusal.text, &rid);
        if self.options.ledger == LedgerDetail::Full {
            if self.rids.len() >= RIDS_MAX {
                self.rids.pop_front();
            }
            self.rids.push_back(RidRecord {
                rid,
                appid: self.caller(inquiry).to_owned(),
                at: now,
                url: format!("{}?{}", inquiry.api.path(), inquiry.query),
                body: String::from_utf8_lossy(inquiry.body).into_owned(),
                reply: String::from_utf8_lossy(&reply.body).into_owned(),
                client_ip: inquiry.client_ip.to_string(),
            });
        }
        reply
    }

    /// Records how a call ended and frees its user.
    pub fn end(&mut self, inquiry: &Inquiry<'_>, arrived: &Arrived, ending: &Ending<'_>) {
        if arrived.epoch != self.epoch {
            return;
        }
        self.sends_inside -= usize::from(arrived.is_inside);
        if arrived.entered {
            let keeps_sums = self.options.ledger == LedgerDetail::Full;
            let openid = inquiry.receiver().0;
            let app = self.app(&arrived.appid);
            let user = app.user(openid);
            user.busy = false;
            // A map of millions of users stops every call for as long as it takes to grow.
            if !keeps_sums && user.is_blank() {
                app.users.remove(openid);
            }
        }
        let errcode = ending.errcode.or(ending.reply.map(|reply| reply.errcode));
        if let Some(errcode) = errcode {
            *self.counts.errcodes.entry(errcode).or_default() += 1;
        }
        self.counts.sends_answered += u64::from(inquiry.api.is_message());
        let accepted = ending.reply.is_some_and(|reply| reply.accepted);
        self.counts.replies_lost += u64::from(accepted && !ending.delivered);
        let now = self.now();
        if let Some(call) = arrived.index.and_then(|index| self.calls.get_mut(index)) {
            call.answered_at = ending.answered.then_some(now);
            call.errcode = errcode;
            call.fault = ending.fault.map(str::to_owned);
            call.reply_delivered = ending.delivered;
        }
    }

    /// The app a call comes from, as far as it can be known; else empty.
    fn caller<'a>(&'a self, inquiry: &'a Inquiry<'_>) -> &'a str {
        match &inquiry.request {
            Request::Token(Ok(body)) => &body.appid,
            Request::Login(query) => &query.appid,
            _ => self.tokens.owner(&inquiry.access_token).unwrap_or_default(),
        }
    }

    /// The app of a working token.
    pub fn authorize(&self, inquiry: &Inquiry<'_>) -> Result<String, Refusal> {
        let errcode = match self.tokens.standing(&inquiry.access_token, self.now()) {
            _ if inquiry.access_token.is_empty() => 41001,
            Standing::Valid(appid) => return Ok(appid.to_owned()),
            Standing::Replaced | Standing::Unknown => 40001,
            Standing::Expired => 42001,
            Standing::Malformed => 40014,
        };
        Err(Refusal::new(errcode))
    }

    /// Counts a call against the quotas of its app and path.
    pub fn meter(&mut self, appid: &str, api: Api) -> Result<(), Refusal> {
        let now = self.now();
        let app = self.app(appid);
        let limits = app.limits(api);
        let errcode = match app.meters.entry(api).or_default().count(limits, now) {
            Ok(()) => return Ok(()),
            Err(Exceeded::Daily) => 45009,
            Err(Exceeded::PerMinute) => 45011,
        };
        Err(Refusal::new(errcode))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hyper::Method;

    use super::*;

    /// Asks for `count` tokens at one moment and gives the bodies of the last two answers.
    fn last_two_of(
        count: usize,
        api: Api,
        method: &Method,
        query: &str,
        body: &[u8],
    ) -> [String; 2] {
        let mut state = State::new(SimulateOptions::default());
        let caller = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let inquiry = Inquiry::read(api, method, query, "", body, caller);
        let mut last = [String::new(), String::new()];
        for _ in 0..count {
            let arrived = state.arrive(&inquiry);
            let reply = state.judge(&inquiry, &arrived);
            last.rotate_left(1);
            last[1] = String::from_utf8_lossy(&reply.body).into_owned();
        }
        last
    }

    #[test]
    fn the_2001st_plain_token_of_a_day_is_refused() {
        let query = "grant_type=client_credential&appid=wx1&secret=s";
        let [last, refused] = last_two_of(2_001, Api::Token, &Method::GET, query, b"");
        assert!(last.contains("access_token"), "{last}");
        assert!(refused.contains(r#""errcode":45009"#), "{refused}");
    }

    #[test]
    fn more_than_10000_stable_tokens_a_minute_are_refused() {
        // Twice the quota, and one: whatever minute boundary falls in between, the last is over it.
        let body = br#"{"grant_type":"client_credential","appid":"wx1","secret":"s"}"#;
        let [last, refused] = last_two_of(20_001, Api::StableToken, &Method::POST, "", body);
        assert!(last.contains("45011"), "{last}");
        assert!(refused.contains("reach limit, must slower"), "{refused}");
    }
}
