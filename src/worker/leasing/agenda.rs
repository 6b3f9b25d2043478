//! The leaser's policy, free of input and output: given the time and what is known it says what comes next.
//!
//! A lane is one `(appid, lane)`; it is *hot* while it may have more due rows than were seen. A pick starts at the lane's
//! *watermark*, looking back a second, because rows become visible after their `due`. A *sweep* starts from the front and
//! finds what the watermark has passed: rows of busy users, transactions that committed late. Sweeps have a duty limit, so
//! that a long dead front costs little. To *ask* is to take lanes that are known for hot, without a look for others.
//!
//! Start at [`Agenda::next`]; what became of a step is told to [`Agenda::leased`], [`Agenda::learn`], [`Agenda::dozed`] and
//! [`Agenda::rang`].

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::store::{Front, LaneLeased, LaneRequest, Leased, Watermark};

/// A pick looks this far behind its watermark.
const LOOK_BACK: Duration = Duration::from_secs(1);
/// A sweep comes no sooner than this after the one before, and no sooner than 50 times its own duration.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const SWEEP_DUTY: u32 = 50;
/// The most rows of one lease.
const LEASE_ROWS_MAX: usize = 512;
/// A batch should last about this long at the speed that all live workers have together: each lease costs them the same lock
/// and a commit, so more of them must not mean more and smaller leases.
const BATCH_LASTS: Duration = Duration::from_millis(50);
/// The speed is measured over the shorter span at first and after a sleep, then over twice as much each time.
const SPEED_SPAN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// After the last find a busy worker polls its lanes for this long before it goes to sleep.
const STAY_AWAKE: Duration = Duration::from_millis(60);
/// Its polls come after a wait that doubles between these.
const AWAKE_WAIT: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));
/// A lane whose due rows cannot be leased is asked again after a rest that doubles between these.
const REST: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// A busy worker looks for other lanes this often, and no sooner than 50 times what a look takes.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Between looks a busy worker asks the lanes it knows, this often and no sooner than after so much for each of them: what is
/// urgent is not to wait for the next look.
const ASK_EVERY: Duration = Duration::from_millis(50);
const ASK_EVERY_PER_LANE: Duration = Duration::from_millis(5);
/// A look is dear when it takes this long: it walks past rows that nobody can see, say of a transaction with a million of
/// them that is still open. Then it comes no sooner than after 10 times as long, and a sleeper, too, asks the lanes it knows.
const DEAR_LOOK: Duration = Duration::from_millis(50);
const DEAR_LOOK_DUTY: u32 = 10;
/// What takes longer waited for a connection or a lock, which says nothing of the next look.
const LOOK_MAX: Duration = Duration::from_millis(400);
/// At most this many rows are reserved ahead of the slots.
const AHEAD_MAX: usize = 1024;
/// Above this many lanes with due rows one statement leases from several: from so many that a turn of them all lasts about
/// this long, from each so many rows at least, and from so many lanes at most.
const LANES_ONE_BY_ONE: usize = 4;
const TURN_LASTS: Duration = Duration::from_secs(1);
const LANE_ROWS_MIN: usize = 8;
const LANES_MAX: usize = 64;
/// Of ten picks of a mini-program one goes to its bulk lane first.
const BULK_TURN: u32 = 10;
/// What is due so soon keeps one that is to end when nothing is due.
const SOON: Duration = Duration::from_millis(300);

/// What the leaser remembers of one mini-program.
#[derive(Debug, Default)]
struct App {
    low_lease_id: i64,
    picks: u32,
}

/// The database's clock at some moment of ours.
#[derive(Debug, Clone, Copy)]
struct Clock {
    at: DateTime<Utc>,
    seen: Instant,
}

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Lease from these lanes.
    Lease(Plan),
    /// Look which lanes have due rows.
    Look {
        /// Nothing is known to be due: it sleeps or ends if nothing is found.
        before_sleep: bool,
    },
    /// Poll after this long: cheaper for producers than a bell for every INSERT.
    Doze(Duration),
    /// Sleep so long unless the bell rings.
    Sleep(Duration),
    /// Nothing is due, and that was to be the end.
    End,
}

/// One lease.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub lanes: Vec<LaneRequest>,
    /// Of each lane at most.
    pub rows: usize,
    /// Of several lanes together, about.
    pub total: usize,
    /// Its sends begin at once.
    pub start: bool,
    /// The bell rang: it begins where a row was found last, before anything else is asked.
    pub is_guess: bool,
}

/// What the agenda does not remember itself.
pub(super) struct Known<'a> {
    pub now: Instant,
    /// Whether sends of a mini-program are held back here.
    pub is_paused: &'a dyn Fn(&str) -> bool,
    /// Whether a mini-program's sends are limited: it is leased from by itself.
    pub has_rate: &'a dyn Fn(&str) -> bool,
    /// Sends that may be in flight.
    pub concurrency: usize,
    /// Rows leased, not yet begun.
    pub waiting: usize,
    pub in_flight: usize,
    /// Batches not yet settled to the end.
    pub batches: usize,
    /// Live workers.
    pub workers: usize,
    /// A login code is being exchanged whose row may become due.
    pub logins_wait: bool,
}

/// What is known of lanes, and when what was done last.
pub(super) struct Agenda {
    /// End when nothing is due.
    until_empty: bool,
    /// The longest sleep.
    poll: Duration,
    lanes: BTreeMap<(String, i16), Lane>,
    apps: HashMap<String, App>,
    /// Mini-programs of whose rate nothing is left, until then.
    resting: HashMap<String, Instant>,
    /// The mini-program of the last pick: the next pick begins behind it.
    last_app: String,
    clock: Option<Clock>,
    found_at: Instant,
    awake_wait: Duration,
    speed: Speed,
    look: Look,
    /// A look has just been had because nothing was known to be due.
    looked_before_sleep: bool,
    /// How long the last lease took that found at least half of what it was asked for: a small one says nothing of the next.
    lease_took: Duration,
    /// The bell rang: where a row was found last there is probably the next one.
    rung: bool,
}

/// What the leaser remembers of one lane.
#[derive(Debug)]
struct Lane {
    watermark: Watermark,
    /// It may have more due rows than were seen.
    hot: bool,
    rests_until: Instant,
    swept_at: Option<Instant>,
    sweep_took: Duration,
    /// When a batch was last found in it.
    found_at: Option<Instant>,
    /// When it was last asked in vain, and how long it rests after that if it still looks due.
    nothing_at: Option<Instant>,
    rest: Duration,
}

/// The last look for lanes.
#[derive(Debug)]
struct Look {
    at: Instant,
    took: Duration,
    /// When the first row of a lane that had nothing due will be due.
    next_due: Option<Instant>,
    /// When the lanes known were last asked without a look.
    asked_known_at: Instant,
}

/// Rows begun per second, over the last quarter of a second or more; over shorter spans when work has just begun.
#[derive(Debug)]
struct Speed {
    since: Instant,
    span: Duration,
    begun: usize,
    per_second: f64,
}

impl Agenda {
    pub(super) fn new(until_empty: bool, poll: Duration, now: Instant) -> Self {
        Self {
            until_empty,
            poll,
            lanes: BTreeMap::new(),
            apps: HashMap::new(),
            resting: HashMap::new(),
            last_app: String::new(),
            clock: None,
            found_at: now,
            awake_wait: AWAKE_WAIT.0,
            speed: Speed::new(now),
            look: Look::new(now),
            looked_before_sleep: false,
            lease_took: Duration::ZERO,
            rung: false,
        }
    }

    /// Forgets lanes, watermarks and leases: the server may be another, or rows were leased without us knowing.
    pub(super) fn forget(&mut self, now: Instant) {
        self.lanes.clear();
        self.apps.clear();
        self.resting.clear();
        self.look = Look::new(now);
        self.looked_before_sleep = false;
    }

    /// How many rows to reserve ahead of the slots: twice what is sent while a lease is under way, so that the slots never
    /// run dry.
    pub(super) fn rows_ahead(&self, concurrency: usize) -> usize {
        let meanwhile = (self.speed.per_second * self.lease_took.as_secs_f64() * 2.0) as usize;
        meanwhile.clamp(concurrency, AHEAD_MAX.max(concurrency))
    }

    /// Takes note that `begun` rows have been begun in all.
    pub(super) fn note_speed(&mut self, begun: usize, now: Instant) {
        self.speed.update(begun, now);
    }

    /// What to do now.
    pub(super) fn next(&mut self, known: &Known<'_>) -> Step {
        let now = known.now;
        if std::mem::take(&mut self.looked_before_sleep) && !self.has_hot(known) {
            return self.end_or_sleep(known);
        }
        if let Some(lane) = self.guess(known) {
            // The look, on the next turn, finds what else has come.
            return Step::Lease(self.plan(vec![lane], true, known));
        }
        // Also while one lane keeps the worker busy: another may have become due.
        if self.look.is_due_while_busy(now) {
            return Step::Look {
                before_sleep: false,
            };
        }
        if self.is_time_to_ask(now) || self.has_rested(now) {
            self.ask_known_lanes(now);
        }
        if let Some(lanes) = self.next_lanes(known) {
            return Step::Lease(self.plan(lanes, false, known));
        }
        if let Some(wait) = self.waits_for_rate(known) {
            return Step::Doze(wait);
        }
        if now - self.found_at < STAY_AWAKE && !self.lanes.is_empty() {
            return Step::Doze(self.awake_wait);
        }
        if self.until_empty || self.lanes.is_empty() || self.look.may_look(now) {
            self.looked_before_sleep = true;
            return Step::Look { before_sleep: true };
        }
        if self.look.next_due.is_some_and(|next| next <= now) {
            self.look.next_due = None;
            self.ask_known_lanes(now);
        }
        if let Some(lanes) = self.next_lanes(known) {
            return Step::Lease(self.plan(lanes, false, known));
        }
        self.end_or_sleep(known)
    }

    fn end_or_sleep(&self, known: &Known<'_>) -> Step {
        if self.until_empty && !known.logins_wait && self.is_empty(known) {
            Step::End
        } else {
            Step::Sleep(self.sleep_for(known.now))
        }
    }

    /// The doze is over: lanes that had something lately are asked again without looking for others first.
    pub(super) fn dozed(&mut self, now: Instant) {
        self.awake_wait = (self.awake_wait * 2).min(AWAKE_WAIT.1);
        for lane in self.lanes.values_mut() {
            lane.hot |=
                lane.rests_until <= now && lane.found_at.is_some_and(|at| now - at < STAY_AWAKE);
        }
    }

    /// The bell rang while it slept: look everywhere.
    pub(super) fn rang(&mut self, now: Instant) {
        self.rung = true;
        for lane in self.lanes.values_mut() {
            lane.rests_until = now;
        }
        if self.look.is_dear() {
            self.ask_known_lanes(now);
        }
    }

    /// After the bell, where to lease at once: the lane that had a row last, when there are few.
    fn guess(&mut self, known: &Known<'_>) -> Option<(String, i16)> {
        if !std::mem::take(&mut self.rung) || self.lanes.len() > LANES_ONE_BY_ONE {
            return None;
        }
        let (lane, _) = self
            .lanes
            .iter()
            .filter(|((appid, _), lane)| lane.found_at.is_some() && !(known.is_paused)(appid))
            .max_by_key(|(_, lane)| lane.found_at)?;
        Some(lane.clone())
    }

    fn plan(&self, lanes: Vec<(String, i16)>, is_guess: bool, known: &Known<'_>) -> Plan {
        let hot = self.lanes.values().filter(|lane| lane.hot).count();
        let rows = self.rows_of_lane(hot, known);
        let is_one = lanes.len() == 1;
        let total = if is_one {
            rows
        } else {
            self.rows_wanted(known)
        };
        // Whether all of them could be begun at once: then their lease is started with the same statement.
        let start = known.waiting == 0
            && known.in_flight * 2 <= known.concurrency
            && (is_one || total <= known.concurrency);
        let requests = lanes.into_iter().map(|(appid, lane)| LaneRequest {
            after: self.begin_at(&appid, lane, known.now),
            low_lease_id: self.apps.get(&appid).map_or(0, |app| app.low_lease_id),
            appid,
            lane,
        });
        Plan {
            lanes: requests.collect(),
            rows,
            total,
            start,
            is_guess,
        }
    }

    /// The rows a statement should lease: as many as last [`BATCH_LASTS`].
    fn rows_wanted(&self, known: &Known<'_>) -> usize {
        let workers = known.workers.max(1) as f64;
        let lasting = (self.speed.per_second * workers * BATCH_LASTS.as_secs_f64()) as usize;
        lasting.max(known.concurrency).min(LEASE_ROWS_MAX)
    }

    /// The rows of one of so many lanes: a few of each make them share the slots, many of each make leases cheap.
    fn rows_of_lane(&self, lanes: usize, known: &Known<'_>) -> usize {
        let batch = self.rows_wanted(known);
        let share = self.speed.per_second * TURN_LASTS.as_secs_f64() / lanes.max(1) as f64;
        (share as usize)
            .max(batch / lanes.max(1))
            .clamp(LANE_ROWS_MIN.min(batch), batch)
    }

    /// The lanes to lease from now: one, or several when many are hot. Mini-programs take turns.
    fn next_lanes(&mut self, known: &Known<'_>) -> Option<Vec<(String, i16)>> {
        let mut by_app: BTreeMap<&str, Vec<i16>> = BTreeMap::new();
        for ((appid, number), lane) in &self.lanes {
            if lane.hot && lane.rests_until <= known.now && !(known.is_paused)(appid) {
                by_app.entry(appid).or_default().push(*number);
            }
        }
        let (before, after): (Vec<_>, Vec<_>) = by_app
            .into_iter()
            .partition(|(appid, _)| *appid <= self.last_app.as_str());
        let turns: Vec<(String, Vec<i16>)> = after
            .into_iter()
            .chain(before)
            .map(|(appid, numbers)| (appid.to_owned(), numbers))
            .collect();
        let count = if turns.len() > LANES_ONE_BY_ONE {
            LANES_MAX
        } else {
            1
        };
        let mut lanes = Vec::with_capacity(count);
        for (appid, numbers) in turns.into_iter().take(count) {
            let has_rate = (known.has_rate)(&appid);
            if has_rate && !lanes.is_empty() {
                break;
            }
            let number = self.lane_in_turn(&appid, &numbers);
            self.last_app.clone_from(&appid);
            lanes.push((appid, number));
            if has_rate {
                break;
            }
        }
        (!lanes.is_empty()).then_some(lanes)
    }

    /// Which of a mini-program's hot lanes has its turn: urgent first; but of ten picks bulk gets one, and whatever comes
    /// second gets one.
    fn lane_in_turn(&mut self, appid: &str, numbers: &[i16]) -> i16 {
        let app = self.apps.entry(appid.to_owned()).or_default();
        app.picks = app.picks.wrapping_add(1);
        if app.picks.is_multiple_of(BULK_TURN) && numbers.contains(&2) {
            return 2;
        }
        let second_turn = app.picks % BULK_TURN == BULK_TURN / 2 && numbers.len() > 1;
        numbers[usize::from(second_turn)]
    }

    /// Takes note of what a lease gave that was asked for at `asked_at`.
    pub(super) fn leased(
        &mut self,
        plan: &Plan,
        found: &[LaneLeased],
        asked_at: Instant,
        now: Instant,
    ) {
        let took = now - asked_at;
        if found.iter().map(|lane| lane.leased.rows()).sum::<usize>() * 2 >= plan.total {
            self.lease_took = took;
        }
        let visited = lanes_visited(plan, found);
        for request in &plan.lanes[..visited] {
            let is_found =
                |lane: &LaneLeased| lane.lane == request.lane && lane.appid == request.appid;
            let name = (request.appid.clone(), request.lane);
            let Some(lane) = self.lanes.get_mut(&name) else {
                continue;
            };
            let sweep = request.after == Watermark::START;
            if sweep {
                lane.swept_at = Some(asked_at);
                lane.sweep_took = took / u32::try_from(visited).unwrap_or(1);
            }
            if !found.iter().any(is_found) {
                lane.found_nothing(sweep, self.clock, now);
            }
        }
        // The next turn begins where this one ended.
        if let Some(last) = plan.lanes[..visited].last() {
            self.last_app.clone_from(&last.appid);
        }
        for lane in found {
            self.found(plan, lane, now);
        }
    }

    fn found(&mut self, plan: &Plan, found: &LaneLeased, now: Instant) {
        let name = (found.appid.clone(), found.lane);
        let lane = self.lanes.get_mut(&name);
        let Leased::Batch {
            lease,
            watermark,
            low_lease_id,
        } = &found.leased
        else {
            if let Some(lane) = lane {
                lane.hot = true;
            }
            return;
        };
        self.clock = Some(Clock {
            at: lease.leased_at,
            seen: lease.asked_at,
        });
        self.found_at = now;
        self.awake_wait = AWAKE_WAIT.0;
        if let Some(lane) = lane {
            lane.hot = lease.rows.len() == plan.rows;
            lane.watermark = *watermark;
            lane.found_at = Some(now);
            lane.nothing_at = None;
            lane.rest = REST.0;
        }
        self.apps
            .entry(found.appid.clone())
            .or_default()
            .low_lease_id = *low_lease_id;
    }

    /// Leaves a mini-program's lanes alone for so long, because nothing is left of its rate.
    pub(super) fn rest(&mut self, appid: &str, rest: Duration, now: Instant) {
        self.resting.insert(appid.to_owned(), now + rest);
        for ((owner, _), lane) in &mut self.lanes {
            if owner == appid {
                lane.rests_until = now + rest;
            }
        }
    }

    /// Where the next pick begins: at the front when a sweep is due, else at the watermark, but at most a second ago.
    fn begin_at(&self, appid: &str, number: i16, now: Instant) -> Watermark {
        let Some(lane) = self.lanes.get(&(appid.to_owned(), number)) else {
            return Watermark::START;
        };
        let (Some(clock), false) = (self.clock, lane.may_sweep(now)) else {
            return Watermark::START;
        };
        let recent = Watermark {
            due: Some(clock.at(now) - LOOK_BACK),
            id: 0,
        };
        if lane.watermark < recent {
            lane.watermark
        } else {
            recent
        }
    }

    fn has_hot(&self, known: &Known<'_>) -> bool {
        self.lanes.iter().any(|((appid, _), lane)| {
            lane.hot && lane.rests_until <= known.now && !(known.is_paused)(appid)
        })
    }

    /// While lanes with more rows wait for their rate and no other had a row lately, polling them would find nothing: how long until
    /// the first may go on, or until it is time to look for others.
    fn waits_for_rate(&self, known: &Known<'_>) -> Option<Duration> {
        let now = known.now;
        let mut until = None;
        for ((appid, _), lane) in &self.lanes {
            if (known.is_paused)(appid) {
                continue;
            }
            if lane.rests_until <= now {
                if lane.found_at.is_some_and(|at| now - at < STAY_AWAKE) {
                    return None;
                }
                continue;
            }
            if lane.hot && self.resting.contains_key(appid) {
                let until = until.get_or_insert(lane.rests_until);
                *until = lane.rests_until.min(*until);
            }
        }
        let until = until?.min(self.look.at + LOOK_EVERY);
        Some(until.saturating_duration_since(now).max(AWAKE_WAIT.0))
    }

    /// Whether a mini-program may use its rate again: what became urgent while it rested goes before its bulk, which would take all
    /// there is.
    fn has_rested(&mut self, now: Instant) -> bool {
        let resting = self.resting.len();
        self.resting.retain(|_, until| *until > now);
        self.resting.len() < resting
    }

    fn is_time_to_ask(&self, now: Instant) -> bool {
        let is_busy = self.lanes.values().any(|lane| lane.hot);
        self.look.may_ask_known(now, is_busy, self.lanes.len())
    }

    /// Lanes that had something once are asked again, from their watermarks: cheaper than a look for lanes.
    fn ask_known_lanes(&mut self, now: Instant) {
        self.look.asked_known_at = now;
        self.know_more_urgent_lanes(now);
        for lane in self.lanes.values_mut() {
            lane.hot |= lane.rests_until <= now;
        }
    }

    /// The more urgent lanes beside those that are hot count as known, if they are few: on a slow machine the look that would
    /// find the first urgent row is seconds away, and bulk would be sent before it.
    fn know_more_urgent_lanes(&mut self, now: Instant) {
        let hot = self.lanes.iter().filter(|(_, lane)| lane.hot);
        let unknown: Vec<(String, i16)> = hot
            .flat_map(|((appid, number), _)| (0..*number).map(|urgent| (appid.clone(), urgent)))
            .filter(|lane| !self.lanes.contains_key(lane))
            .collect();
        if self.lanes.len() + unknown.len() <= LANES_ONE_BY_ONE {
            let unknown = unknown.into_iter().map(|lane| (lane, Lane::new(now)));
            self.lanes.extend(unknown);
        }
    }

    /// Takes note of which lanes have due rows, and when the next row of a lane that has none will be due: what a look from
    /// `began` to `now` found. Answers lanes whose front is due and has not been had for long: they are to be tidied.
    pub(super) fn learn(
        &mut self,
        fronts: Vec<Front>,
        is_ours: &dyn Fn(&str) -> bool,
        began: Instant,
        now: Instant,
    ) -> Vec<(String, i16)> {
        self.look.ended(began, now);
        if let Some(front) = fronts.first() {
            self.clock = Some(Clock {
                at: front.at,
                seen: began,
            });
        }
        self.lanes
            .retain(|_, lane| lane.rests_until > now || lane.swept_at.is_some());
        let mut blocked = Vec::new();
        let mut next_due: Option<Duration> = None;
        for front in fronts {
            let Some(due_in_secs) = front.due_in_secs.filter(|_| is_ours(&front.appid)) else {
                continue;
            };
            let name = (front.appid, front.lane);
            let lane = self
                .lanes
                .entry(name.clone())
                .or_insert_with(|| Lane::new(now));
            let due_in = if due_in_secs <= 0.0 {
                if lane.looks_due() {
                    blocked.push(name);
                }
                lane.rests_until.checked_duration_since(now)
            } else {
                Some(Duration::from_secs_f64(due_in_secs.min(3600.0)))
            };
            if let Some(due_in) = due_in.filter(|due_in| !due_in.is_zero()) {
                next_due = Some(next_due.map_or(due_in, |next| next.min(due_in)));
            }
        }
        self.look.next_due = next_due.map(|next| now + next);
        blocked
    }

    /// Whether nothing is due, in flight, or only waiting for a rest to end.
    fn is_empty(&self, known: &Known<'_>) -> bool {
        let resting = self.lanes.values().any(|lane| lane.hot);
        let soon = known.now + SOON;
        !resting && known.batches == 0 && self.look.next_due.is_none_or(|next| next > soon)
    }

    /// How long to sleep when no bell rings; not long while a lane is only held back.
    fn sleep_for(&self, now: Instant) -> Duration {
        let is_held_back = self.lanes.values().any(|lane| lane.hot);
        let longest = if is_held_back {
            self.poll.min(REST.1)
        } else {
            self.poll
        };
        let until_due = |next: Instant| next.saturating_duration_since(now);
        self.look
            .next_due
            .map_or(longest, |next| until_due(next).min(longest))
            .max(Duration::from_millis(1))
    }
}

/// How many of the lanes asked for were looked at: none behind the one that made the total.
fn lanes_visited(plan: &Plan, found: &[LaneLeased]) -> usize {
    let rows = found.iter().map(|lane| match &lane.leased {
        Leased::Batch { lease, .. } => lease.rows.len(),
        Leased::Cleared => 1,
        Leased::Nothing => 0,
    });
    let Some(last) = found.last().filter(|_| rows.sum::<usize>() >= plan.total) else {
        return plan.lanes.len();
    };
    plan.lanes
        .iter()
        .position(|request| request.appid == last.appid && request.lane == last.lane)
        .map_or(plan.lanes.len(), |at| at + 1)
}

impl Lane {
    /// It was asked in vain. After a sweep its watermark need not stay behind: there is nothing before now to find.
    fn found_nothing(&mut self, sweep: bool, clock: Option<Clock>, now: Instant) {
        self.hot = false;
        self.nothing_at = Some(now);
        if let (true, Some(clock)) = (sweep, clock) {
            self.watermark = Watermark {
                due: Some(clock.at(now) - LOOK_BACK),
                id: 0,
            };
        }
    }

    /// Its front is due. If it was asked in vain the row is in flight, or blocked and to be tidied: it rests, longer each
    /// time. True: it has done so for long.
    fn looks_due(&mut self) -> bool {
        self.hot = true;
        let Some(nothing_at) = self.nothing_at.take() else {
            return false;
        };
        self.rests_until = nothing_at + self.rest;
        self.rest = (self.rest * 2).min(REST.1);
        self.rest == REST.1
    }

    fn may_sweep(&self, now: Instant) -> bool {
        self.swept_at
            .is_none_or(|at| now - at > SWEEP_EVERY.max(self.sweep_took * SWEEP_DUTY))
    }

    fn new(now: Instant) -> Self {
        Self {
            watermark: Watermark::START,
            hot: false,
            rests_until: now,
            swept_at: None,
            sweep_took: Duration::ZERO,
            found_at: None,
            nothing_at: None,
            rest: REST.0,
        }
    }
}

impl Look {
    fn new(now: Instant) -> Self {
        Self {
            at: now,
            took: Duration::ZERO,
            next_due: None,
            asked_known_at: now,
        }
    }

    fn ended(&mut self, began: Instant, now: Instant) {
        self.at = now;
        self.took = (now - began).min(LOOK_MAX);
    }

    fn is_dear(&self) -> bool {
        self.took >= DEAR_LOOK
    }

    /// Whether a worker that has something to do looks what else there is.
    fn is_due_while_busy(&self, now: Instant) -> bool {
        now - self.at >= LOOK_EVERY.max(self.took * SWEEP_DUTY)
    }

    /// Whether one that has nothing to do looks before it sleeps.
    fn may_look(&self, now: Instant) -> bool {
        !self.is_dear() || now - self.at >= self.took * DEAR_LOOK_DUTY
    }

    /// Whether it is time to ask so many lanes known instead.
    fn may_ask_known(&self, now: Instant, is_busy: bool, lanes: usize) -> bool {
        let lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
        let every = ASK_EVERY.max(ASK_EVERY_PER_LANE.saturating_mul(lanes));
        (is_busy || self.is_dear()) && now - self.asked_known_at >= every
    }
}

impl Clock {
    /// The database's clock, at the latest.
    fn at(&self, now: Instant) -> DateTime<Utc> {
        self.at + now.saturating_duration_since(self.seen)
    }
}

impl Speed {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            span: SPEED_SPAN.0,
            begun: 0,
            per_second: 0.0,
        }
    }

    /// Takes note that `begun` rows have been begun in all.
    fn update(&mut self, begun: usize, now: Instant) {
        let elapsed = now - self.since;
        if elapsed < self.span {
            return;
        }
        let rows = begun.wrapping_sub(self.begun);
        self.per_second =
            f64::from(u32::try_from(rows).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
        // Asleep meanwhile: how fast it will be is known soon after it has begun, or the first leases would stay small.
        self.span = if elapsed > SPEED_SPAN.1 * 4 {
            SPEED_SPAN.0
        } else {
            (self.span * 2).min(SPEED_SPAN.1)
        };
        self.begun = begun;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(10);
    const SENDS: &dyn Fn(&str) -> bool = &|_| false;

    /// A worker with free slots and nothing in flight.
    fn known(now: Instant) -> Known<'static> {
        Known {
            now,
            is_paused: SENDS,
            has_rate: SENDS,
            concurrency: 64,
            waiting: 0,
            in_flight: 0,
            batches: 0,
            workers: 1,
            logins_wait: false,
        }
    }

    fn front(appid: &str, lane: i16, due_in_secs: Option<f64>) -> Front {
        Front {
            appid: appid.to_owned(),
            lane,
            due_in_secs,
            at: DateTime::<Utc>::UNIX_EPOCH + Duration::from_secs(1_000_000),
        }
    }

    /// An agenda that has just looked and found these fronts.
    fn looked(fronts: Vec<Front>, now: Instant) -> Agenda {
        let mut agenda = Agenda::new(false, POLL, now);
        agenda.learn(fronts, &|_| true, now, now);
        agenda
    }

    fn lease(step: Step) -> Plan {
        match step {
            Step::Lease(plan) => plan,
            other => panic!("{other:?}"),
        }
    }

    fn lanes(plan: &Plan) -> Vec<(&str, i16)> {
        plan.lanes
            .iter()
            .map(|lane| (lane.appid.as_str(), lane.lane))
            .collect()
    }

    /// So many rows of the plan's first lane.
    fn batch(plan: &Plan, rows: usize, now: Instant) -> LaneLeased {
        let leased_at = DateTime::<Utc>::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let row = |id| {
            let reason = String::new();
            Err(crate::store::CorruptRow { id, reason })
        };
        LaneLeased {
            appid: plan.lanes[0].appid.clone(),
            lane: plan.lanes[0].lane,
            leased: Leased::Batch {
                lease: crate::store::Lease {
                    appid: plan.lanes[0].appid.clone(),
                    lease_id: 7,
                    leased_at,
                    asked_at: now,
                    started_at: None,
                    rows: (1..=rows as i64).map(row).collect(),
                },
                watermark: Watermark {
                    due: Some(leased_at - Duration::from_secs(60)),
                    id: rows as i64,
                },
                low_lease_id: 5,
            },
        }
    }

    #[test]
    fn what_a_look_finds_decides_what_comes_after_it() {
        let in_secs = |secs| vec![front("wx1", 1, Some(secs))];
        let sleep = |secs| Step::Sleep(Duration::from_secs(secs));
        for (fronts, until_empty, expected) in [
            (vec![], false, sleep(10)),
            (vec![], true, Step::End),
            (vec![front("wx1", 1, None)], false, sleep(10)),
            (vec![front("wx1", 1, None)], true, Step::End),
            (in_secs(3.0), false, sleep(3)),
            (in_secs(3.0), true, Step::End),
            (in_secs(0.25), true, Step::Sleep(Duration::from_millis(250))),
            (in_secs(7200.0), false, sleep(10)),
        ] {
            let now = Instant::now();
            let mut agenda = Agenda::new(until_empty, POLL, now);
            let before_sleep = true;
            assert_eq!(agenda.next(&known(now)), Step::Look { before_sleep });
            agenda.learn(fronts.clone(), &|_| true, now, now);
            assert_eq!(
                agenda.next(&known(now)),
                expected,
                "{fronts:?} {until_empty}"
            );
        }
    }

    #[test]
    fn one_that_is_to_end_at_empty_waits_for_what_is_on_its_way() {
        let now = Instant::now();
        let cases = [(1, false), (0, true)];
        for (batches, logins_wait) in cases {
            let mut agenda = Agenda::new(true, POLL, now);
            agenda.next(&known(now));
            agenda.learn(vec![], &|_| true, now, now);
            let known = Known {
                batches,
                logins_wait,
                ..known(now)
            };
            assert_eq!(agenda.next(&known), Step::Sleep(POLL));
        }
    }

    #[test]
    fn a_lane_is_leased_from_its_front_and_then_from_its_watermark() {
        let now = Instant::now();
        let mut agenda = looked(vec![front("wx1", 1, Some(-5.0))], now);
        let first = lease(agenda.next(&known(now)));
        assert_eq!(lanes(&first), [("wx1", 1)]);
        assert_eq!(first.lanes[0].after, Watermark::START);
        assert!(first.start && first.rows == 64);

        let found = batch(&first, 64, now);
        agenda.leased(&first, &[found], now, now);
        let second = lease(agenda.next(&known(now)));
        assert_eq!(second.lanes[0].after.id, 64);
        assert_eq!(second.lanes[0].low_lease_id, 5);

        let later = now + SWEEP_EVERY + Duration::from_millis(1);
        agenda.look.at = later;
        let swept = lease(agenda.next(&known(later)));
        assert_eq!(swept.lanes[0].after, Watermark::START);
    }

    #[test]
    fn a_lease_is_started_at_once_only_where_its_rows_find_free_slots() {
        let now = Instant::now();
        for (waiting, in_flight, start) in
            [(0, 0, true), (0, 32, true), (0, 33, false), (1, 0, false)]
        {
            let mut agenda = looked(vec![front("wx1", 1, Some(-5.0))], now);
            let known = Known {
                waiting,
                in_flight,
                ..known(now)
            };
            assert_eq!(lease(agenda.next(&known)).start, start);
        }
    }

    #[test]
    fn after_the_last_row_it_polls_less_and_less_often_then_looks_then_sleeps() {
        let start = Instant::now();
        let mut now = start;
        let mut agenda = looked(vec![front("wx1", 1, Some(-5.0))], now);
        let plan = lease(agenda.next(&known(now)));
        agenda.leased(&plan, &[batch(&plan, 1, now)], now, now);
        let mut waits = Vec::new();
        while let Step::Doze(wait) = agenda.next(&known(now)) {
            waits.push(wait.as_millis());
            now += wait;
            agenda.dozed(now);
            agenda.look.asked_known_at = now;
            if now - start < STAY_AWAKE {
                let asked = lease(agenda.next(&known(now)));
                agenda.leased(&asked, &[], now, now);
            }
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16]);
        // What was found counts until it is in the past for the database, too.
        agenda.learn(vec![], &|_| true, now, now);
        agenda.looked_before_sleep = true;
        assert_eq!(agenda.next(&known(now)), Step::Sleep(POLL));
    }

    #[test]
    fn urgent_goes_first_and_bulk_gets_one_pick_of_ten() {
        let now = Instant::now();
        let fronts = (0..3).map(|lane| front("wx1", lane, Some(-5.0)));
        let mut agenda = looked(fronts.collect(), now);
        let picks: Vec<i16> = (0..20)
            .map(|_| lease(agenda.next(&known(now))).lanes[0].lane)
            .collect();
        let count = |lane| picks.iter().filter(|pick| **pick == lane).count();
        assert_eq!((count(0), count(1), count(2)), (16, 2, 2), "{picks:?}");
    }

    #[test]
    fn mini_programs_take_turns_and_many_share_a_statement() {
        let now = Instant::now();
        let fronts = |count| -> Vec<Front> {
            let appids = (0..count).map(|app| format!("wx{app}"));
            appids.map(|appid| front(&appid, 1, Some(-5.0))).collect()
        };
        let mut few = looked(fronts(3), now);
        let turns: Vec<String> = (0..4)
            .map(|_| lease(few.next(&known(now))).lanes.remove(0).appid)
            .collect();
        assert_eq!(turns, ["wx0", "wx1", "wx2", "wx0"]);
        let mut many = looked(fronts(8), now);
        assert_eq!(lease(many.next(&known(now))).lanes.len(), 8);
    }

    #[test]
    fn one_with_a_rate_is_leased_from_by_itself() {
        let now = Instant::now();
        let fronts: Vec<Front> = (0..6)
            .map(|app| front(&format!("wx{app}"), 1, Some(-5.0)))
            .collect();
        let mut agenda = looked(fronts, now);
        let known = Known {
            has_rate: &|appid| appid == "wx2",
            ..known(now)
        };
        let plans = (0..3).map(|_| lease(agenda.next(&known)).lanes.len());
        assert_eq!(plans.collect::<Vec<_>>(), [2, 1, 6 - 3 + 2]);
    }

    #[test]
    fn while_nothing_is_left_of_a_rate_it_waits_and_looks_for_others_now_and_then() {
        let start = Instant::now();
        let mut agenda = looked(vec![front("wx1", 2, Some(-5.0))], start);
        let known = |now| Known {
            has_rate: &|_| true,
            ..known(now)
        };
        let mut plan = lease(agenda.next(&known(start)));
        plan.rows = 10;
        agenda.leased(&plan, &[batch(&plan, 10, start)], start, start);
        agenda.rest("wx1", Duration::from_millis(80), start);
        let Step::Doze(wait) = agenda.next(&known(start)) else {
            panic!("it polls what cannot be had");
        };
        assert_eq!(wait, Duration::from_millis(80));
        agenda.dozed(start + wait);
        let first = lease(agenda.next(&known(start + wait)));
        assert_eq!(lanes(&first), [("wx1", 0)], "what became urgent meanwhile");

        agenda.rest("wx1", Duration::from_millis(80), start + wait);
        assert_eq!(
            agenda.next(&known(start + wait)),
            Step::Doze(LOOK_EVERY - wait),
            "a look is due before the rest ends"
        );
        let is_look = matches!(agenda.next(&known(start + LOOK_EVERY)), Step::Look { .. });
        assert!(is_look);
    }

    #[test]
    fn a_lane_that_had_a_row_lately_is_polled_while_another_waits_for_its_rate() {
        let now = Instant::now();
        let fronts = vec![front("wx1", 2, Some(-5.0)), front("wx2", 1, Some(-5.0))];
        let mut agenda = looked(fronts, now);
        for _ in 0..2 {
            let plan = lease(agenda.next(&known(now)));
            agenda.leased(&plan, &[batch(&plan, 1, now)], now, now);
        }
        agenda.rest("wx1", Duration::from_millis(80), now);
        assert_eq!(agenda.next(&known(now)), Step::Doze(AWAKE_WAIT.0));
    }

    #[test]
    fn a_paused_one_is_left_alone_but_not_for_long() {
        let now = Instant::now();
        let mut agenda = looked(vec![front("wx1", 1, Some(-5.0))], now);
        agenda.looked_before_sleep = true;
        let known = Known {
            is_paused: &|_| true,
            ..known(now)
        };
        assert_eq!(agenda.next(&known), Step::Sleep(REST.1));
    }

    #[test]
    fn after_the_bell_it_leases_where_a_row_was_found_last() {
        let now = Instant::now();
        let due = |lane| front("wx1", lane, Some(-5.0));
        let mut agenda = looked(vec![due(0), due(1)], now);
        let plan = lease(agenda.next(&known(now)));
        agenda.leased(&plan, &[batch(&plan, 1, now)], now, now);
        let later = now + Duration::from_secs(60);
        agenda.rang(later);
        let guess = lease(agenda.next(&known(later)));
        assert!(guess.is_guess);
        assert_eq!(lanes(&guess), lanes(&plan));
        assert_eq!(
            agenda.next(&known(later)),
            Step::Look {
                before_sleep: false
            }
        );
    }

    #[test]
    fn a_lane_that_looks_due_and_gives_nothing_rests_longer_each_time_and_is_to_be_tidied_then() {
        let mut now = Instant::now();
        let due = || vec![front("wx1", 1, Some(-5.0))];
        let mut agenda = looked(due(), now);
        let mut tidied = Vec::new();
        for _ in 0..7 {
            let plan = lease(agenda.next(&known(now)));
            agenda.leased(&plan, &[], now, now);
            tidied.push(!agenda.learn(due(), &|_| true, now, now).is_empty());
            agenda.looked_before_sleep = true;
            let Step::Sleep(rest) = agenda.next(&known(now)) else {
                panic!("it does not rest");
            };
            now += rest;
            agenda.look.asked_known_at = now;
            agenda.look.at = now;
        }
        assert_eq!(tidied, [false, false, false, false, false, true, true]);
    }

    #[test]
    fn lanes_behind_the_one_that_made_the_total_were_not_looked_at() {
        let now = Instant::now();
        let request = |appid: &str| LaneRequest {
            appid: appid.to_owned(),
            lane: 1,
            after: Watermark::START,
            low_lease_id: 0,
        };
        let plan = Plan {
            lanes: vec![request("wx1"), request("wx2"), request("wx3")],
            rows: 8,
            total: 8,
            start: false,
            is_guess: false,
        };
        let due = |appid| front(appid, 1, Some(-5.0));
        for (rows, hot_behind) in [(8, true), (7, false)] {
            let mut agenda = looked(vec![due("wx1"), due("wx2"), due("wx3")], now);
            agenda.leased(&plan, &[batch(&plan, rows, now)], now, now);
            let behind = &agenda.lanes[&("wx2".to_owned(), 1)];
            assert_eq!(behind.hot, hot_behind);
        }
    }

    /// Rows begun every millisecond from `start` on, `count` of them.
    fn begin(speed: &mut Speed, begun: usize, start: Instant, count: u32) -> usize {
        for row in 1..=count {
            speed.update(
                begun + row as usize,
                start + Duration::from_millis(row.into()),
            );
        }
        begun + count as usize
    }

    #[test]
    fn a_sleeper_looks_each_time_unless_looks_are_dear() {
        let now = Instant::now();
        let mut look = Look::new(now);
        look.took = Duration::from_millis(3);
        let soon = now + LOOK_EVERY;
        assert!(look.may_look(now) && !look.may_ask_known(soon, false, 2));
        look.took = Duration::from_millis(400);
        assert!(look.may_ask_known(soon, false, 2));
        assert!(!look.may_look(now + Duration::from_millis(3_999)));
        assert!(look.may_look(now + Duration::from_secs(4)));
    }

    #[test]
    fn a_look_that_had_to_wait_for_a_connection_does_not_put_off_the_next_for_minutes() {
        let now = Instant::now();
        let mut look = Look::new(now);
        look.ended(now, now + Duration::from_secs(10));
        assert!(look.may_look(now + Duration::from_secs(14)));
    }

    #[test]
    fn between_looks_a_busy_worker_asks_the_lanes_it_knows() {
        let now = Instant::now();
        let mut look = Look::new(now);
        look.took = Duration::from_millis(20);
        let soon = now + ASK_EVERY;
        assert!(!look.is_due_while_busy(soon) && look.may_ask_known(soon, true, 2));
        look.asked_known_at = soon;
        assert!(!look.may_ask_known(soon + ASK_EVERY / 2, true, 2));
        assert!(look.is_due_while_busy(now + Duration::from_secs(1)));
    }

    #[test]
    fn many_lanes_are_asked_less_often() {
        let now = Instant::now();
        let look = Look::new(now);
        assert!(!look.may_ask_known(now + Duration::from_millis(4_999), true, 1_000));
        assert!(look.may_ask_known(now + Duration::from_secs(5), true, 1_000));
    }

    #[test]
    fn the_speed_is_known_soon_after_the_first_row() {
        let now = Instant::now();
        let mut speed = Speed::new(now);
        begin(&mut speed, 0, now, 25);
        assert!((speed.per_second - 1_000.0).abs() < 1.0, "{speed:?}");
    }

    #[test]
    fn a_steady_speed_is_measured_over_a_quarter_of_a_second() {
        let now = Instant::now();
        let mut speed = Speed::new(now);
        let begun = begin(&mut speed, 0, now, 1_800);
        speed.update(begun + 500, now + Duration::from_millis(1_850));
        assert!((speed.per_second - 1_000.0).abs() < 1.0, "{speed:?}");
    }

    #[test]
    fn after_a_sleep_the_speed_is_known_soon_again() {
        let now = Instant::now();
        let mut speed = Speed::new(now);
        let begun = begin(&mut speed, 0, now, 2_000);
        let woken = now + Duration::from_secs(60);
        speed.update(begun, woken);
        assert!(speed.per_second < 10.0, "{speed:?}");
        begin(&mut speed, begun, woken, 25);
        assert!((speed.per_second - 1_000.0).abs() < 1.0, "{speed:?}");
    }
}
