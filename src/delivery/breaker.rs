//! What many answers say that one does not: sliding windows per mini-program and template. Pure: takes `now`.
//!
//! Two *circuits* per mini-program watch the transport: requests that may have been sent and got no answer (each is a
//! row in doubt, so a gateway that fails fast must be left alone at once), and requests that no connection was had for.
//! A circuit that opens pauses the mini-program; the pause doubles while probes fail.
//!
//! *Watches* count errcodes that stop more than their row when they come in numbers: [`Escalation`].
//!
//! Each worker counts what it sees itself; the pause they lead to is shared. Start at [`Breaker::observe`].

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use crate::{
    notification::{Effect, Notification, PauseUntil},
    wechat::errcode::{Counted, ErrcodeRule, Escalation, Scope, Window},
};

/// How one request ended, as far as windows care.
#[derive(Debug, Clone, Copy)]
pub enum Observation<'a> {
    /// WeChat answered with an errcode, and this is its rule.
    Answered {
        /// The errcode.
        errcode: i64,
        /// What the table says about it.
        rule: &'a ErrcodeRule,
        /// The answer shows that WeChat serves this mini-program.
        sound: bool,
    },
    /// It may have been sent; no readable answer.
    PossiblySent,
    /// Nothing was sent, for want of a connection or an access token; why, for people.
    NotSent(&'a str),
}

/// When a circuit opens and for how long.
#[derive(Debug, Clone, Copy)]
struct CircuitPolicy {
    failures_min: u32,
    percent_min: u32,
    pause_first: Duration,
    pause_cap: Duration,
}

const CIRCUIT_WINDOW: Duration = Duration::from_secs(10);
/// So many failures without a success between them open a circuit, however many calls went well before: a gateway that
/// fails within a millisecond would otherwise put as many rows in doubt as were sent in the whole window.
const FAILURES_IN_A_ROW: u32 = 10;

const LOST: CircuitPolicy = CircuitPolicy {
    failures_min: 5,
    percent_min: 50,
    pause_first: Duration::from_secs(30),
    pause_cap: Duration::from_secs(300),
};

const LOST_REASON: &str =
    "circuit breaker: most requests got no readable answer and may have been sent";

const UNREACHABLE: CircuitPolicy = CircuitPolicy {
    failures_min: 3,
    percent_min: 50,
    pause_first: Duration::from_secs(2),
    pause_cap: Duration::from_secs(60),
};

/// At this many watches, those without a hit in their window are forgotten; if none is idle, no more are made.
const WATCHES_MAX: usize = 512;

/// The windows of all mini-programs.
#[derive(Debug, Default)]
pub struct Breaker {
    circuits: HashMap<String, Circuits>,
    watches: HashMap<String, Vec<Watch>>,
    watch_count: usize,
}

impl Breaker {
    /// Counts one observation; the pauses it leads to, mostly none.
    pub fn observe(
        &mut self,
        notification: &Notification,
        observation: Observation<'_>,
        now: Instant,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.observe_transport(notification, observation, now, &mut effects);
        if let Observation::Answered { errcode, rule, .. } = observation {
            self.observe_errcode(notification, errcode, rule, now, &mut effects);
        }
        effects
    }

    fn observe_transport(
        &mut self,
        notification: &Notification,
        observation: Observation<'_>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if !self.circuits.contains_key(&notification.appid) {
            self.circuits
                .insert(notification.appid.clone(), Circuits::new(now));
        }
        let circuits = self
            .circuits
            .get_mut(&notification.appid)
            .expect("it was just inserted if it was missing");
        let (lost, unreachable, sound) = match observation {
            Observation::Answered { sound, .. } => (false, false, sound),
            Observation::PossiblySent => (true, false, false),
            Observation::NotSent(_) => (false, true, false),
        };
        let unreachable_reason = match observation {
            Observation::NotSent(reason) => reason,
            _ => "",
        };
        for (circuit, policy, failed, reason) in [
            (&mut circuits.lost, &LOST, lost, LOST_REASON),
            (
                &mut circuits.unreachable,
                &UNREACHABLE,
                unreachable,
                unreachable_reason,
            ),
        ] {
            if sound {
                circuit.close(notification.probe, now);
            }
            if let Some(pause) = circuit.count(policy, failed, notification.probe, now) {
                effects.push(Effect::PauseApp {
                    appid: notification.appid.clone(),
                    until: PauseUntil::After(pause),
                    reason: reason.to_owned(),
                    errcode: None,
                });
            }
        }
    }

    fn observe_errcode(
        &mut self,
        notification: &Notification,
        errcode: i64,
        rule: &ErrcodeRule,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if rule.escalation.is_none() && !self.watches.contains_key(&notification.appid) {
            return;
        }
        if self.watch_count >= WATCHES_MAX {
            self.forget_idle(now);
        }
        let subject = Subject::of(notification);
        let watches = self.watches.entry(notification.appid.clone()).or_default();
        if let Some(escalation) = &rule.escalation
            && self.watch_count < WATCHES_MAX
            && !watches.iter().any(|watch| watch.is_hit_by(subject, rule))
        {
            watches.push(Watch::new(subject, rule.errcode, escalation.clone(), now));
            self.watch_count += 1;
        }
        for watch in watches.iter_mut().filter(|watch| watch.covers(subject)) {
            let hit = watch.is_hit_by(subject, rule);
            if hit {
                watch.escalation = rule
                    .escalation
                    .clone()
                    .expect("only a rule that escalates hits");
            }
            if watch.count(notification, hit, now) {
                effects.push(watch.effect(notification, errcode));
                watch.reset(now);
            }
        }
    }

    fn forget_idle(&mut self, now: Instant) {
        for watches in self.watches.values_mut() {
            watches.retain(|watch| {
                now.saturating_duration_since(watch.last_hit_at) < watch.idle_after()
            });
        }
        self.watches.retain(|_, watches| !watches.is_empty());
        self.watch_count = self.watches.values().map(Vec::len).sum();
    }
}

#[derive(Debug)]
struct Circuits {
    lost: Circuit,
    unreachable: Circuit,
}

impl Circuits {
    fn new(now: Instant) -> Self {
        Self {
            lost: Circuit::new(now),
            unreachable: Circuit::new(now),
        }
    }
}

/// Open while its pause lasts. What was in flight when it opened is not counted against it again.
#[derive(Debug)]
struct Circuit {
    failures: TimeWindow,
    calls: TimeWindow,
    in_a_row: u32,
    trips: u32,
    open_until: Option<Instant>,
}

impl Circuit {
    fn new(now: Instant) -> Self {
        Self {
            failures: TimeWindow::new(CIRCUIT_WINDOW, now),
            calls: TimeWindow::new(CIRCUIT_WINDOW, now),
            in_a_row: 0,
            trips: 0,
            open_until: None,
        }
    }

    /// Counts a call; the pause if the circuit opens. A probe that fails opens it at once.
    fn count(
        &mut self,
        policy: &CircuitPolicy,
        failed: bool,
        probe: bool,
        now: Instant,
    ) -> Option<Duration> {
        // Stragglers of the time before the pause say nothing new. A probe does: an operator may have ended the pause early.
        if !probe && self.open_until.is_some_and(|until| now < until) {
            return None;
        }
        self.calls.add(now);
        if !failed {
            self.in_a_row = 0;
            return None;
        }
        self.failures.add(now);
        self.in_a_row += 1;
        let failures = self.failures.sum(now);
        let most = failures >= policy.failures_min
            && failures * 100 >= self.calls.sum(now) * policy.percent_min;
        let many = most || (self.in_a_row >= FAILURES_IN_A_ROW && failures >= FAILURES_IN_A_ROW);
        if !many && !probe {
            return None;
        }
        let pause = policy
            .pause_first
            .saturating_mul(1 << self.trips.min(16))
            .min(policy.pause_cap);
        self.trips += 1;
        self.open_until = Some(now + pause);
        self.failures.clear();
        self.calls.clear();
        self.in_a_row = 0;
        Some(pause)
    }

    /// A sound answer to a probe or after the pause: the next one begins small again.
    fn close(&mut self, probe: bool, now: Instant) {
        if self.open_until.is_some_and(|until| probe || now >= until) {
            self.open_until = None;
            self.trips = 0;
        }
    }
}

/// What a call was about, hashed once.
#[derive(Debug, Clone, Copy)]
struct Subject {
    template: u64,
    page: u64,
}

impl Subject {
    fn of(notification: &Notification) -> Self {
        Self {
            template: hash(&notification.template_id),
            page: hash(&notification.page),
        }
    }
}

/// Counts one errcode of one mini-program or template, from its first occurrence on.
#[derive(Debug)]
struct Watch {
    errcode: Option<i64>,
    template: Option<u64>,
    page: Option<u64>,
    escalation: Escalation,
    hits: TimeWindow,
    calls: TimeWindow,
    last_calls: u64,
    seen: HashMap<u64, Instant>,
    last_hit_at: Instant,
}

impl Watch {
    fn new(subject: Subject, errcode: Option<i64>, escalation: Escalation, now: Instant) -> Self {
        let span = span_of(&escalation);
        Self {
            errcode,
            template: (escalation.scope == Scope::Template).then_some(subject.template),
            page: (escalation.counted == Counted::CallsOfOnePage).then_some(subject.page),
            hits: TimeWindow::new(span, now),
            calls: TimeWindow::new(span, now),
            last_calls: 0,
            seen: HashMap::new(),
            last_hit_at: now,
            escalation,
        }
    }

    /// Whether a call for this subject belongs to what is watched.
    fn covers(&self, subject: Subject) -> bool {
        self.template
            .is_none_or(|template| template == subject.template)
            && self.page.is_none_or(|page| page == subject.page)
    }

    fn is_hit_by(&self, subject: Subject, rule: &ErrcodeRule) -> bool {
        rule.escalation.is_some() && self.errcode == rule.errcode && self.covers(subject)
    }

    /// Counts a call; whether it is one too many.
    fn count(&mut self, notification: &Notification, hit: bool, now: Instant) -> bool {
        self.calls.add(now);
        self.last_calls = self.last_calls << 1 | u64::from(hit);
        if !hit {
            return false;
        }
        self.hits.add(now);
        self.last_hit_at = now;
        let (counted, hits, calls) = match self.escalation.window {
            Window::Calls(window) => {
                let window = u32::from(window.clamp(1, 64));
                let hits = (self.last_calls << (64 - window)).count_ones();
                (hits, hits, window)
            }
            Window::Time(span) => {
                let hits = self.hits.sum(now);
                (
                    self.distinct(notification, span, now).unwrap_or(hits),
                    hits,
                    self.calls.sum(now),
                )
            }
        };
        let share_is_high = self
            .escalation
            .percent_min
            .is_none_or(|percent| u64::from(hits) * 100 >= u64::from(calls) * u64::from(percent));
        counted >= self.escalation.count_min && share_is_high
    }

    /// How many different things had the code, where those are counted.
    fn distinct(
        &mut self,
        notification: &Notification,
        span: Duration,
        now: Instant,
    ) -> Option<u32> {
        let thing = match self.escalation.counted {
            Counted::Calls | Counted::CallsOfOnePage => return None,
            Counted::Openids => hash(&notification.openid),
            Counted::Templates => hash(&notification.template_id),
        };
        self.seen.insert(thing, now);
        self.seen
            .retain(|_, seen_at| now.saturating_duration_since(*seen_at) <= span);
        Some(u32::try_from(self.seen.len()).unwrap_or(u32::MAX))
    }

    fn effect(&self, notification: &Notification, errcode: i64) -> Effect {
        let code = match self.errcode {
            Some(errcode) => format!("errcode {errcode}"),
            None => format!("errcodes that are not listed, last {errcode},"),
        };
        let reason = format!("{code} came in numbers");
        match self.escalation.scope {
            Scope::App => Effect::PauseApp {
                appid: notification.appid.clone(),
                until: self.escalation.pause,
                reason,
                errcode: Some(errcode),
            },
            Scope::Template => Effect::PauseTemplate {
                appid: notification.appid.clone(),
                template_id: notification.template_id.clone(),
                until: self.escalation.pause,
                reason,
                errcode: Some(errcode),
            },
        }
    }

    /// After the pause it counts anew.
    fn reset(&mut self, now: Instant) {
        self.hits = TimeWindow::new(span_of(&self.escalation), now);
        self.calls = TimeWindow::new(span_of(&self.escalation), now);
        self.last_calls = 0;
        self.seen.clear();
    }

    fn idle_after(&self) -> Duration {
        span_of(&self.escalation)
    }
}

fn span_of(escalation: &Escalation) -> Duration {
    match escalation.window {
        Window::Time(span) => span,
        Window::Calls(_) => Duration::from_secs(3600),
    }
}

fn hash(thing: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    hasher.finish()
}

const BUCKETS: usize = 10;

/// Counts of the last `span`, in tenths of it: memory does not grow with the calls.
#[derive(Debug)]
struct TimeWindow {
    bucket: Duration,
    began_at: Instant,
    latest: u64,
    counts: [u32; BUCKETS],
}

impl TimeWindow {
    fn new(span: Duration, now: Instant) -> Self {
        let bucket = (span / BUCKETS as u32).max(Duration::from_millis(1));
        Self {
            bucket,
            began_at: now,
            latest: 0,
            counts: [0; BUCKETS],
        }
    }

    fn add(&mut self, now: Instant) {
        self.advance(now);
        let count = &mut self.counts[self.latest as usize % BUCKETS];
        *count = count.saturating_add(1);
    }

    fn sum(&mut self, now: Instant) -> u32 {
        self.advance(now);
        self.counts
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn clear(&mut self) {
        self.counts = [0; BUCKETS];
    }

    fn advance(&mut self, now: Instant) {
        let elapsed =
            now.saturating_duration_since(self.began_at).as_millis() / self.bucket.as_millis();
        let current = u64::try_from(elapsed).unwrap_or(u64::MAX).max(self.latest);
        if current - self.latest >= BUCKETS as u64 {
            self.clear();
        } else {
            for passed in self.latest + 1..=current {
                self.counts[passed as usize % BUCKETS] = 0;
            }
        }
        self.latest = current;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        notification::{Credit, Openid, sample},
        wechat::errcode::{Disposition, ErrcodeTable},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn rule(errcode: i64, escalation: Option<Escalation>) -> ErrcodeRule {
        ErrcodeRule {
            errcode: Some(errcode),
            disposition: Disposition::Dead,
            credit: Credit::Kept,
            pause: None,
            retries_max: None,
            escalation,
        }
    }

    fn escalation(
        scope: Scope,
        counted: Counted,
        count_min: u32,
        percent_min: Option<u8>,
        window: Window,
    ) -> Escalation {
        Escalation {
            scope,
            counted,
            count_min,
            percent_min,
            window,
            pause: PauseUntil::After(600 * SECOND),
        }
    }

    fn answered(rule: &ErrcodeRule) -> Observation<'_> {
        Observation::Answered {
            errcode: rule.errcode.unwrap_or(99),
            rule,
            sound: true,
        }
    }

    fn app_pause(effects: &[Effect]) -> Option<Duration> {
        effects.iter().find_map(|effect| match effect {
            Effect::PauseApp {
                until: PauseUntil::After(pause),
                ..
            } => Some(*pause),
            _ => None,
        })
    }

    fn template_is_paused(effects: &[Effect]) -> bool {
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::PauseTemplate { .. }))
    }

    #[test]
    fn five_lost_answers_in_ten_seconds_open_the_circuit_and_four_do_not() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        for _ in 0..4 {
            assert_eq!(breaker.observe(&row, Observation::PossiblySent, now), []);
        }
        let effects = breaker.observe(&row, Observation::PossiblySent, now + SECOND);
        assert_eq!(app_pause(&effects), Some(30 * SECOND));
    }

    #[test]
    fn lost_answers_that_are_a_small_share_open_nothing() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        let fine = rule(0, None);
        for _ in 0..100 {
            breaker.observe(&row, answered(&fine), now);
        }
        for _ in 0..99 {
            assert_eq!(breaker.observe(&row, Observation::PossiblySent, now), []);
            breaker.observe(&row, answered(&fine), now);
        }
    }

    #[test]
    fn ten_lost_answers_in_a_row_open_the_circuit_however_many_calls_went_well_before() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        let fine = rule(0, None);
        for _ in 0..10_000 {
            breaker.observe(&row, answered(&fine), now);
        }
        for _ in 0..9 {
            assert_eq!(breaker.observe(&row, Observation::PossiblySent, now), []);
        }
        let effects = breaker.observe(&row, Observation::PossiblySent, now);
        assert_eq!(app_pause(&effects), Some(30 * SECOND));
    }

    #[test]
    fn lost_answers_spread_over_a_minute_open_nothing() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        for step in 0..20 {
            assert_eq!(
                breaker.observe(&row, Observation::PossiblySent, now + 3 * step * SECOND),
                []
            );
        }
    }

    #[test]
    fn what_was_in_flight_when_it_opened_does_not_lengthen_the_pause() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        let pauses = (0..64)
            .filter_map(|_| app_pause(&breaker.observe(&row, Observation::PossiblySent, now)))
            .count();
        assert_eq!(pauses, 1);
    }

    #[test]
    fn the_pause_doubles_with_each_probe_that_fails_and_begins_small_after_a_sound_answer() {
        let (mut breaker, mut row, mut now) = (Breaker::default(), sample(), Instant::now());
        for _ in 0..5 {
            breaker.observe(&row, Observation::PossiblySent, now);
        }
        row.probe = true;
        let mut pauses = Vec::new();
        for _ in 0..5 {
            now += 301 * SECOND;
            pauses.push(
                app_pause(&breaker.observe(&row, Observation::PossiblySent, now))
                    .unwrap()
                    .as_secs(),
            );
        }
        assert_eq!(pauses, [60, 120, 240, 300, 300]);
        now += 301 * SECOND;
        assert_eq!(breaker.observe(&row, answered(&rule(0, None)), now), []);
        let effects = breaker.observe(&row, Observation::PossiblySent, now);
        assert_eq!(app_pause(&effects), Some(30 * SECOND));
    }

    #[test]
    fn a_probe_counts_even_when_an_operator_ended_the_pause_early() {
        let (mut breaker, mut row, now) = (Breaker::default(), sample(), Instant::now());
        for _ in 0..5 {
            breaker.observe(&row, Observation::PossiblySent, now);
        }
        row.probe = true;
        let effects = breaker.observe(&row, Observation::PossiblySent, now + SECOND);
        assert_eq!(app_pause(&effects), Some(60 * SECOND));
        breaker.observe(&row, answered(&rule(0, None)), now + 2 * SECOND);
        row.probe = false;
        let pauses = (0..5)
            .filter_map(|_| {
                let lost = Observation::PossiblySent;
                app_pause(&breaker.observe(&row, lost, now + 3 * SECOND))
            })
            .count();
        assert_eq!(pauses, 1, "a new outage is noticed at once");
    }

    #[test]
    fn an_outage_of_the_network_pauses_for_seconds() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        breaker.observe(&row, Observation::NotSent("no connection"), now);
        breaker.observe(&row, Observation::NotSent("no connection"), now);
        assert_eq!(
            app_pause(&breaker.observe(&row, Observation::NotSent("no connection"), now)),
            Some(2 * SECOND)
        );
    }

    #[test]
    fn one_mini_programs_trouble_is_not_anothers() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        let mut other = sample();
        other.appid = "wxother".into();
        for _ in 0..4 {
            breaker.observe(&row, Observation::PossiblySent, now);
            assert_eq!(breaker.observe(&other, Observation::PossiblySent, now), []);
        }
    }

    #[test]
    fn unlisted_codes_pause_the_app_when_they_are_a_fifth_of_all() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        let table = ErrcodeTable::new([]);
        let fine = rule(0, None);
        let mut paused_after = None;
        for call in 1..=200 {
            let effects = if call % 4 == 1 {
                let errcode = 70_000 + call;
                let unlisted = Observation::Answered {
                    errcode,
                    rule: table.rule(errcode),
                    sound: false,
                };
                breaker.observe(&row, unlisted, now)
            } else {
                breaker.observe(&row, answered(&fine), now)
            };
            if app_pause(&effects) == Some(600 * SECOND) {
                paused_after.get_or_insert(call);
            }
        }
        assert_eq!(
            paused_after,
            Some(17),
            "the fifth unlisted code of 17 answers"
        );
    }

    #[test]
    fn unlisted_codes_below_a_fifth_pause_nothing() {
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        let table = ErrcodeTable::new([]);
        let fine = rule(0, None);
        for call in 1..=2000_i64 {
            let effects = if call % 6 == 0 {
                let unlisted = Observation::Answered {
                    errcode: 70_000,
                    rule: table.rule(70_000),
                    sound: false,
                };
                breaker.observe(&row, unlisted, now)
            } else {
                breaker.observe(&row, answered(&fine), now)
            };
            // The window begins with the first such code, so that the very first ones weigh more.
            assert!(call < 40 || effects.is_empty(), "call {call}: {effects:?}");
        }
    }

    #[test]
    fn half_of_a_templates_last_twenty_pause_it_and_no_other_template() {
        let half = escalation(
            Scope::Template,
            Counted::Calls,
            10,
            Some(50),
            Window::Calls(20),
        );
        let (bad, fine) = (rule(47003, Some(half)), rule(0, None));
        let (mut breaker, row, now) = (Breaker::default(), sample(), Instant::now());
        let mut other = sample();
        other.template_id = "other".into();
        for _ in 0..9 {
            assert_eq!(breaker.observe(&row, answered(&bad), now), []);
            assert_eq!(breaker.observe(&other, answered(&bad), now), []);
            breaker.observe(&row, answered(&fine), now);
            for _ in 0..3 {
                breaker.observe(&other, answered(&fine), now);
            }
        }
        assert!(template_is_paused(&breaker.observe(
            &row,
            answered(&bad),
            now
        )));
        assert_eq!(breaker.observe(&other, answered(&bad), now), []);
    }

    #[test]
    fn five_users_with_a_code_pause_the_app_and_one_user_five_times_does_not() {
        let users = escalation(
            Scope::App,
            Counted::Openids,
            5,
            None,
            Window::Time(300 * SECOND),
        );
        let limited = rule(50002, Some(users));
        let (mut breaker, mut row, now) = (Breaker::default(), sample(), Instant::now());
        for _ in 0..20 {
            assert_eq!(breaker.observe(&row, answered(&limited), now), []);
        }
        for user in 1..4 {
            row.openid = Openid::new(format!("oUser{user}"));
            assert_eq!(breaker.observe(&row, answered(&limited), now), []);
        }
        row.openid = Openid::new("oUser4");
        assert!(app_pause(&breaker.observe(&row, answered(&limited), now)).is_some());
    }

    #[test]
    fn users_seen_longer_ago_than_the_window_do_not_count() {
        let users = escalation(
            Scope::App,
            Counted::Openids,
            5,
            None,
            Window::Time(300 * SECOND),
        );
        let limited = rule(50002, Some(users));
        let (mut breaker, mut row, now) = (Breaker::default(), sample(), Instant::now());
        for user in 0..20 {
            row.openid = Openid::new(format!("oUser{user}"));
            assert_eq!(
                breaker.observe(&row, answered(&limited), now + 100 * user * SECOND),
                []
            );
        }
    }

    #[test]
    fn a_second_banned_template_pauses_the_app() {
        let templates = escalation(
            Scope::App,
            Counted::Templates,
            2,
            None,
            Window::Time(3600 * SECOND),
        );
        let banned = rule(43107, Some(templates));
        let (mut breaker, mut row, now) = (Breaker::default(), sample(), Instant::now());
        assert_eq!(breaker.observe(&row, answered(&banned), now), []);
        assert_eq!(breaker.observe(&row, answered(&banned), now), []);
        row.template_id = "other".into();
        assert!(app_pause(&breaker.observe(&row, answered(&banned), now)).is_some());
    }

    #[test]
    fn ten_rows_with_one_bad_page_pause_the_template_and_ten_pages_do_not() {
        let page = escalation(
            Scope::Template,
            Counted::CallsOfOnePage,
            10,
            None,
            Window::Time(300 * SECOND),
        );
        let lost = rule(41030, Some(page));
        let (mut breaker, mut row, now) = (Breaker::default(), sample(), Instant::now());
        for page in 0..30 {
            row.page = Some(format!("pages/{page}"));
            assert_eq!(breaker.observe(&row, answered(&lost), now), []);
        }
        row.page = Some("pages/same".into());
        for _ in 0..9 {
            assert_eq!(breaker.observe(&row, answered(&lost), now), []);
        }
        assert!(template_is_paused(&breaker.observe(
            &row,
            answered(&lost),
            now
        )));
    }

    #[test]
    fn memory_does_not_grow_with_pages_that_no_longer_come() {
        let page = escalation(
            Scope::Template,
            Counted::CallsOfOnePage,
            10,
            None,
            Window::Time(300 * SECOND),
        );
        let lost = rule(41030, Some(page));
        let (mut breaker, mut row, mut now) = (Breaker::default(), sample(), Instant::now());
        for page in 0..6_000 {
            row.page = Some(format!("pages/{page}"));
            now += SECOND;
            breaker.observe(&row, answered(&lost), now);
        }
        assert!(
            breaker.watch_count <= WATCHES_MAX + 1,
            "{}",
            breaker.watch_count
        );
    }
}
