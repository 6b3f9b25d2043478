//! The leaser: which lane next, from where, how many rows; and when there is nothing, how long to sleep.
//!
//! A lane is one `(appid, lane)`. A pick starts at the lane's *watermark*, looking back a second, because rows become
//! visible after their `due`. A *sweep* starts from the front and finds what the watermark has passed: rows of busy users,
//! transactions that committed late. Sweeps have a duty limit, so that a long dead front costs little.
//!
//! Start at [`lease_until_stopped`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::waking::Bell;
use super::{Worker, lock};
use crate::reconnect::Reconnect;
use crate::store::{LaneRequest, Lease, LeaseRequest, Leased, SendingApp, StoreError, Watermark};
use crate::telemetry;

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
/// A lane whose due rows cannot be leased is asked again after a rest that doubles between these.
const REST_MIN: Duration = Duration::from_millis(5);
const REST_MAX: Duration = Duration::from_millis(250);
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
/// At most this many rows are reserved ahead of the slots, and this many more wait for their settle before leasing stops.
const AHEAD_MAX: usize = 1024;
const UNSETTLED_MAX: usize = 4096;
/// A lane without rate left rests this long.
const RATE_REST: Duration = Duration::from_millis(100);
/// Above this many lanes with due rows one statement leases from several: from so many that a turn of them all lasts about
/// this long, from each so many rows at least, and from so many lanes at most.
const LANES_ONE_BY_ONE: usize = 4;
const TURN_LASTS: Duration = Duration::from_secs(1);
const LANE_ROWS_MIN: usize = 8;
const LANES_MAX: usize = 64;
/// Of ten picks of a mini-program one goes to its bulk lane first.
const BULK_TURN: u32 = 10;

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

/// What it remembers of one mini-program.
#[derive(Debug, Default)]
struct App {
    low_lease_id: i64,
    picks: u32,
    /// Sends granted by its rate, usable until then.
    granted: Option<(i32, Instant)>,
}

/// The database's clock at some moment of ours.
#[derive(Debug, Clone, Copy)]
struct Clock {
    at: DateTime<Utc>,
    seen: Instant,
}

struct Leaser {
    worker: Arc<Worker>,
    leases: mpsc::Sender<Vec<Lease>>,
    lanes: BTreeMap<(String, i16), Lane>,
    apps: HashMap<String, App>,
    /// The mini-program of the last pick: the next pick begins behind it.
    last_app: String,
    clock: Option<Clock>,
    found_at: Instant,
    awake_wait: Duration,
    speed: Speed,
    look: Look,
    /// How long the last lease took that found at least half of what it was asked for: a small one says nothing of the next.
    lease_took: Duration,
    /// The server's identity when leases and watermarks were learnt.
    server: Option<String>,
    /// How many connections for leasing had been made when leases and watermarks were learnt.
    connections: u64,
    /// A lease request had no clear answer.
    unclear: bool,
    /// The bell rang: where a row was found last there is probably the next one.
    rung: bool,
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

/// Leases until the worker is told to stop, or, when asked to end at empty, until nothing is due.
pub(super) async fn lease_until_stopped(
    worker: Arc<Worker>,
    leases: mpsc::Sender<Vec<Lease>>,
    bell: Bell,
) {
    let now = Instant::now();
    let mut leaser = Leaser {
        worker,
        leases,
        lanes: BTreeMap::new(),
        apps: HashMap::new(),
        last_app: String::new(),
        clock: None,
        found_at: now,
        awake_wait: Duration::from_millis(1),
        speed: Speed::new(now),
        look: Look::new(now),
        lease_took: Duration::ZERO,
        server: None,
        connections: 0,
        unclear: false,
        rung: false,
    };
    leaser.run(bell).await;
}

impl Leaser {
    async fn run(&mut self, mut bell: Bell) {
        let stop = self.worker.stop.clone();
        let mut waits = Reconnect::new();
        // Only waits are cut short by the stop: a lease request that is dropped half-way may leave a lease nobody knows.
        while !stop.is_cancelled() {
            match self.turn(&mut bell).await {
                Ok(true) => waits = Reconnect::new(),
                Ok(false) => return,
                Err(error) => {
                    let wait = waits.next_wait();
                    warn!("Leasing waits for the database: {error}");
                    self.worker.health.database_failed(error.to_string());
                    self.unclear = true;
                    let _ = tokio::time::timeout(wait, stop.cancelled()).await;
                }
            }
        }
    }

    /// One lease, or one look for lanes, or one sleep. False: nothing is due and the worker was asked to end then.
    async fn turn(&mut self, bell: &mut Bell) -> Result<bool, StoreError> {
        if self.unclear || self.connections != self.worker.store.leasing_connections() {
            self.forget_after_trouble().await?;
        }
        if !self.wait_for_room().await {
            return Ok(true);
        }
        if let Some((appid, lane)) = self.guess() {
            // The look, on the next turn, finds what else has come.
            self.lease_from(&appid, lane).await?;
            return Ok(true);
        }
        // Also while one lane keeps the worker busy: another may have become due.
        if self.look.is_due_while_busy(Instant::now()) {
            self.look_for_lanes().await?;
        } else if self.is_time_to_ask() {
            self.ask_known_lanes();
        }
        if let Some(lanes) = self.next_lanes() {
            if let [(appid, lane)] = lanes.as_slice() {
                self.lease_from(appid, *lane).await?;
            } else {
                self.lease_from_many(&lanes).await?;
            }
            // The row that rang must not wait for it.
            bell.disarm(&self.worker).await?;
            return Ok(true);
        }
        if self.found_at.elapsed() < STAY_AWAKE && !self.lanes.is_empty() {
            // Busy workers poll: cheaper for producers than a bell for every INSERT.
            tokio::select! {
                () = tokio::time::sleep(self.awake_wait) => {}
                () = bell.rung() => {}
                () = self.worker.stop.cancelled() => {}
            }
            self.awake_wait = (self.awake_wait * 2).min(Duration::from_millis(16));
            self.warm_lanes();
            return Ok(true);
        }
        // Before the look: a code that is exchanged after this question makes its row due before the look.
        let store = &self.worker.store;
        let logins_wait = self.worker.options.until_empty
            && store.logins_wait(&self.worker.options.appids).await?;
        if self.worker.options.until_empty
            || self.lanes.is_empty()
            || self.look.may_look(Instant::now())
        {
            self.look_for_lanes().await?;
        } else if self
            .look
            .next_due
            .is_some_and(|next| next <= Instant::now())
        {
            self.look.next_due = None;
            self.ask_known_lanes();
        }
        if self
            .lanes
            .values()
            .any(|lane| lane.hot && lane.rests_until <= Instant::now())
        {
            return Ok(true);
        }
        if self.worker.options.until_empty && !logins_wait && self.is_empty() {
            return Ok(false);
        }
        if bell.sleep(&self.worker, self.sleep_for()).await? {
            self.rung = true;
            for lane in self.lanes.values_mut() {
                lane.rests_until = Instant::now();
            }
            if self.look.is_dear() {
                self.ask_known_lanes();
            }
        }
        Ok(true)
    }

    /// After an unclear answer, or on a new connection, when the server may be another: what was remembered of leases
    /// is void.
    async fn forget_after_trouble(&mut self) -> Result<(), StoreError> {
        let connections = self.worker.store.leasing_connections();
        let server = self.worker.store.server_identity().await?;
        if self.server.as_ref() != Some(&server) {
            if self.server.is_some() {
                info!("The database server was restarted or replaced: watermarks are forgotten");
            }
            self.server = Some(server);
        }
        self.lanes.clear();
        self.apps.clear();
        self.look = Look::new(Instant::now());
        if self.unclear {
            let store = &self.worker.store;
            store
                .drop_unknown(&self.worker.id, &self.worker.known_leases(), Duration::ZERO)
                .await?;
        }
        self.unclear = false;
        self.connections = connections;
        Ok(())
    }

    /// After the bell, where to lease at once: the lane that had a row last, when there are few.
    fn guess(&mut self) -> Option<(String, i16)> {
        if !std::mem::take(&mut self.rung) || self.lanes.len() > LANES_ONE_BY_ONE {
            return None;
        }
        let (lane, _) = self
            .lanes
            .iter()
            .filter(|((appid, _), lane)| lane.found_at.is_some() && !self.worker.is_paused(appid))
            .max_by_key(|(_, lane)| lane.found_at)?;
        Some(lane.clone())
    }

    /// Waits while enough rows are reserved ahead of the slots, or too many outcomes are not written. False: told to stop meanwhile.
    async fn wait_for_room(&mut self) -> bool {
        let tally = &self.worker.tally;
        // Twice what is sent while a lease is under way, so that the slots never run dry.
        let meanwhile = (self.speed.per_second * self.lease_took.as_secs_f64() * 2.0) as usize;
        let ahead = meanwhile.clamp(self.concurrency(), AHEAD_MAX.max(self.concurrency()));
        tally.ahead.store(ahead, Ordering::Relaxed);
        let unsettled_max = UNSETTLED_MAX + 4 * self.worker.options.concurrency;
        while tally.waiting() >= ahead || tally.unsettled.load(Ordering::Relaxed) >= unsettled_max {
            tokio::select! {
                () = tally.changed.notified() => {}
                () = self.worker.stop.cancelled() => return false,
            }
        }
        let begun = self.worker.tally.begun.load(Ordering::Relaxed);
        self.speed.update(begun, Instant::now());
        true
    }

    /// Sends that may be in flight now.
    fn concurrency(&self) -> usize {
        self.worker.slots.limit()
    }

    /// The rows a statement should lease: as many as last [`BATCH_LASTS`].
    fn rows_wanted(&self) -> usize {
        let workers = self.worker.workers_alive.load(Ordering::Relaxed).max(1) as f64;
        let lasting = (self.speed.per_second * workers * BATCH_LASTS.as_secs_f64()) as usize;
        lasting.max(self.concurrency()).min(LEASE_ROWS_MAX)
    }

    /// The rows of one of so many lanes: a few of each make them share the slots, many of each make leases cheap.
    fn rows_of_lane(&self, lanes: usize) -> usize {
        let batch = self.rows_wanted();
        let share = self.speed.per_second * TURN_LASTS.as_secs_f64() / lanes.max(1) as f64;
        (share as usize)
            .max(batch / lanes.max(1))
            .clamp(LANE_ROWS_MIN.min(batch), batch)
    }

    /// The lanes to lease from now: one, or several when many are hot. Mini-programs take turns.
    fn next_lanes(&mut self) -> Option<Vec<(String, i16)>> {
        let now = Instant::now();
        let mut by_app: BTreeMap<&str, Vec<i16>> = BTreeMap::new();
        for ((appid, number), lane) in &self.lanes {
            if lane.hot && lane.rests_until <= now && !self.worker.is_paused(appid) {
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
            let app = self.apps.entry(appid.clone()).or_default();
            app.picks = app.picks.wrapping_add(1);
            let bulk_turn = app.picks.is_multiple_of(BULK_TURN) && numbers.contains(&2);
            // Urgent first; but of ten picks bulk gets one, and whatever comes second gets one.
            let second_turn = app.picks % BULK_TURN == BULK_TURN / 2 && numbers.len() > 1;
            let number = if bulk_turn {
                2
            } else {
                numbers[usize::from(second_turn)]
            };
            self.last_app.clone_from(&appid);
            lanes.push((appid, number));
        }
        (!lanes.is_empty()).then_some(lanes)
    }

    /// Leases one batch from one lane and updates what is remembered of it.
    async fn lease_from(&mut self, appid: &str, number: i16) -> Result<(), StoreError> {
        let hot_apps = self.lanes.values().filter(|lane| lane.hot).count();
        let mut rows = self.rows_of_lane(hot_apps);
        if self.has_rate(appid) {
            rows = rows.min(self.granted(appid, rows).await?);
            if rows == 0 {
                self.rest(appid, RATE_REST);
                return Ok(());
            }
        }
        let sweep = self.may_sweep(appid, number);
        let asked_at = Instant::now();
        let after = self.begin_at(appid, number);
        let worker = self.worker.clone();
        let request = LeaseRequest {
            appid,
            lane: number,
            worker: &worker.id,
            after,
            low_lease_id: self.apps.get(appid).map_or(0, |app| app.low_lease_id),
            rows: i32::try_from(rows).unwrap_or(1),
            lease: worker.options.lease,
            start: self.has_free_slots(0),
        };
        let leased = worker.store.lease(&request).await?;
        worker.health.lease_polled();
        let took = asked_at.elapsed();
        if let Some(lane) = self.lanes.get_mut(&(appid.to_owned(), number)) {
            if sweep {
                lane.swept_at = Some(asked_at);
                lane.sweep_took = took;
            }
            match &leased {
                Leased::Nothing => lane.found_nothing(sweep, self.clock),
                Leased::Cleared => {}
                Leased::Batch { lease, .. } => lane.hot = lease.rows.len() == rows,
            }
        }
        if leased.rows() * 2 >= rows {
            self.lease_took = took;
        }
        let lease = self.remember(leased, appid, number, took);
        self.pass_on(lease.into_iter().collect()).await;
        Ok(())
    }

    /// Leases a little from each of many lanes in one statement.
    async fn lease_from_many(&mut self, lanes: &[(String, i16)]) -> Result<(), StoreError> {
        let (limited, free): (Vec<_>, Vec<_>) = lanes
            .iter()
            .cloned()
            .partition(|(appid, _)| self.has_rate(appid));
        for (appid, number) in limited {
            self.lease_from(&appid, number).await?;
        }
        let total = self.rows_wanted();
        let hot = self.lanes.values().filter(|lane| lane.hot).count();
        let rows = self.rows_of_lane(hot);
        let requests: Vec<LaneRequest> = free
            .iter()
            .map(|(appid, number)| LaneRequest {
                appid: appid.clone(),
                lane: *number,
                after: self.begin_at(appid, *number),
                low_lease_id: self.apps.get(appid).map_or(0, |app| app.low_lease_id),
            })
            .collect();
        if requests.is_empty() {
            return Ok(());
        }
        let start = self.has_free_slots(total);
        let asked_at = Instant::now();
        let worker = self.worker.clone();
        let many = worker
            .store
            .lease_many(
                &requests,
                i32::try_from(rows).unwrap_or(1),
                i32::try_from(total).unwrap_or(1),
                &worker.id,
                worker.options.lease,
                start,
            )
            .await?;
        worker.health.lease_polled();
        let took = asked_at.elapsed();
        let found = many.iter().filter_map(|(_, _, leased)| leased.identity());
        lock(&worker.known).extend(found);
        let leased = many.iter().map(|(_, _, leased)| leased.rows());
        if leased.sum::<usize>() * 2 >= total {
            self.lease_took = took;
        }
        let visited = lanes_visited(&requests, &many, total);
        for request in &requests[..visited] {
            if let Some(lane) = self.lanes.get_mut(&(request.appid.clone(), request.lane)) {
                let sweep = request.after == Watermark::START;
                if sweep {
                    lane.swept_at = Some(asked_at);
                    lane.sweep_took = took / u32::try_from(visited).unwrap_or(1);
                }
                lane.found_nothing(sweep, self.clock);
            }
        }
        // The next turn begins where this one ended.
        self.last_app.clone_from(&requests[visited - 1].appid);
        let mut leases = Vec::with_capacity(many.len());
        for (appid, number, leased) in many {
            if let Some(lane) = self.lanes.get_mut(&(appid.clone(), number)) {
                lane.hot = match &leased {
                    Leased::Batch { lease, .. } => lease.rows.len() == rows,
                    Leased::Cleared => true,
                    Leased::Nothing => false,
                };
                lane.nothing_at = None;
            }
            leases.extend(self.remember(leased, &appid, number, took));
        }
        let appids = leases.iter().map(|lease| lease.appid.clone());
        worker.tokens.warm(appids);
        self.pass_on(leases).await;
        Ok(())
    }

    /// Passes leases on to the opener, which ends only after us.
    async fn pass_on(&self, leases: Vec<Lease>) {
        if !leases.is_empty() {
            let _ = self.leases.send(leases).await;
        }
    }

    /// Remembers a batch's place.
    fn remember(
        &mut self,
        leased: Leased,
        appid: &str,
        number: i16,
        took: Duration,
    ) -> Option<Lease> {
        let Leased::Batch {
            lease,
            watermark,
            low_lease_id,
        } = leased
        else {
            return None;
        };
        self.clock = Some(Clock {
            at: lease.leased_at,
            seen: lease.asked_at,
        });
        self.found_at = Instant::now();
        self.awake_wait = Duration::from_millis(1);
        if let Some(lane) = self.lanes.get_mut(&(appid.to_owned(), number)) {
            lane.watermark = watermark;
            lane.found_at = Some(self.found_at);
            lane.nothing_at = None;
            lane.rest = REST_MIN;
        }
        let app = self.apps.entry(appid.to_owned()).or_default();
        app.low_lease_id = low_lease_id;
        if let Some((granted, _)) = &mut app.granted {
            *granted -= i32::try_from(lease.rows.len()).unwrap_or(0);
        }
        let tally = &self.worker.tally;
        tally.waiting.fetch_add(lease.rows.len(), Ordering::Relaxed);
        tally
            .unsettled
            .fetch_add(lease.rows.len(), Ordering::Relaxed);
        tally.batches.fetch_add(1, Ordering::Relaxed);
        lock(&self.worker.known).insert((lease.lease_id, lease.leased_at));
        telemetry::record_lease(appid, lease.rows.len(), took);
        debug!(
            rows = lease.rows.len(),
            lane = number,
            "Leased {} rows of {appid}",
            lease.rows.len()
        );
        Some(lease)
    }

    /// Whether `rows` more could be begun at once: then their lease is started with the same statement.
    fn has_free_slots(&self, rows: usize) -> bool {
        let tally = &self.worker.tally;
        let concurrency = self.concurrency();
        tally.waiting() == 0 && tally.in_flight() * 2 <= concurrency && rows <= concurrency
    }

    fn has_rate(&self, appid: &str) -> bool {
        let apps = lock(&self.worker.apps);
        apps.binary_search_by(|app| app.appid.as_str().cmp(appid))
            .is_ok_and(|at| apps[at].has_rate)
    }

    /// How many rows the app's rate lets us lease now: what is left of the last slice, or a new one.
    async fn granted(&mut self, appid: &str, want: usize) -> Result<usize, StoreError> {
        let left = self.apps.get(appid).and_then(|app| app.granted);
        if let Some((left, until)) = left
            && left > 0
            && until > Instant::now()
        {
            return Ok(usize::try_from(left).unwrap_or(0));
        }
        let workers = i32::try_from(self.worker.workers_alive.load(Ordering::Relaxed)).unwrap_or(1);
        let want = i32::try_from(want).unwrap_or(i32::MAX);
        let granted = self.worker.store.take_rate(appid, want, workers).await?;
        let until = Instant::now() + Duration::from_secs(1);
        self.apps.entry(appid.to_owned()).or_default().granted = Some((granted, until));
        Ok(usize::try_from(granted).unwrap_or(0))
    }

    fn rest(&mut self, appid: &str, rest: Duration) {
        for ((owner, _), lane) in &mut self.lanes {
            if owner == appid {
                lane.rests_until = Instant::now() + rest;
            }
        }
    }

    /// Where the next pick begins: at the front when a sweep is due.
    fn begin_at(&self, appid: &str, number: i16) -> Watermark {
        if self.may_sweep(appid, number) {
            Watermark::START
        } else {
            self.pick_from(appid, number)
        }
    }

    fn may_sweep(&self, appid: &str, number: i16) -> bool {
        self.lanes
            .get(&(appid.to_owned(), number))
            .is_none_or(|lane| {
                lane.swept_at
                    .is_none_or(|at| at.elapsed() > SWEEP_EVERY.max(lane.sweep_took * SWEEP_DUTY))
            })
    }

    /// Where a pick that is no sweep begins: the watermark, but at most a second ago.
    fn pick_from(&self, appid: &str, number: i16) -> Watermark {
        let Some(lane) = self.lanes.get(&(appid.to_owned(), number)) else {
            return Watermark::START;
        };
        let Some(clock) = self.clock else {
            return Watermark::START;
        };
        let recent = Watermark {
            due: Some(clock.now() - LOOK_BACK),
            id: 0,
        };
        if lane.watermark < recent {
            lane.watermark
        } else {
            recent
        }
    }

    /// Lanes that had something lately are asked again without looking for others first.
    fn warm_lanes(&mut self) {
        let now = Instant::now();
        for lane in self.lanes.values_mut() {
            lane.hot |=
                lane.rests_until <= now && lane.found_at.is_some_and(|at| now - at < STAY_AWAKE);
        }
    }

    fn is_time_to_ask(&self) -> bool {
        let is_busy = self.lanes.values().any(|lane| lane.hot);
        self.look
            .may_ask_known(Instant::now(), is_busy, self.lanes.len())
    }

    /// Lanes that had something once are asked again, from their watermarks: cheaper than a look for lanes.
    fn ask_known_lanes(&mut self) {
        let now = Instant::now();
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

    /// Learns which lanes have due rows, and when the next row of a lane that has none will be due.
    async fn look_for_lanes(&mut self) -> Result<(), StoreError> {
        let began = Instant::now();
        let fronts = self.worker.store.fronts().await?;
        self.look.ended(began, Instant::now());
        self.worker.health.lease_polled();
        if let Some(front) = fronts.first() {
            self.clock = Some(Clock {
                at: front.at,
                seen: began,
            });
        }
        let mut apps = self.worker.apps();
        // The list is sorted by appid.
        let is_ours = |apps: &[SendingApp], appid: &str| {
            apps.binary_search_by(|app| app.appid.as_str().cmp(appid))
                .is_ok()
        };
        if fronts.iter().any(|front| {
            !is_ours(&apps, &front.appid) && self.worker.options.appids.contains(&front.appid)
        }) {
            // We have its secret: it may have been registered a moment ago.
            self.worker.refresh_apps().await?;
            apps = self.worker.apps();
        }
        let now = Instant::now();
        let mut next_due: Option<Duration> = None;
        self.lanes
            .retain(|_, lane| lane.rests_until > now || lane.swept_at.is_some());
        for front in fronts {
            if !is_ours(&apps, &front.appid) || self.worker.is_paused(&front.appid) {
                continue;
            }
            let Some(due_in_secs) = front.due_in_secs else {
                continue;
            };
            let lane_appid = front.appid.clone();
            let lane = self
                .lanes
                .entry((front.appid, front.lane))
                .or_insert_with(|| Lane::new(now));
            if due_in_secs <= 0.0 {
                lane.hot = true;
                if let Some(nothing_at) = lane.nothing_at.take() {
                    // Due by its front, yet nothing can be leased: in flight, or blocked and to be tidied.
                    lane.rests_until = nothing_at + lane.rest;
                    lane.rest = (lane.rest * 2).min(REST_MAX);
                    if lane.rest == REST_MAX {
                        let _ = self.worker.blocked.send((lane_appid, front.lane));
                    }
                }
                if lane.rests_until > now {
                    let rest = lane.rests_until - now;
                    next_due = Some(next_due.map_or(rest, |next| next.min(rest)));
                }
            } else {
                let due_in = Duration::from_secs_f64(due_in_secs.min(3600.0));
                next_due = Some(next_due.map_or(due_in, |next| next.min(due_in)));
            }
        }
        self.look.next_due = next_due.map(|next| now + next);
        Ok(())
    }

    /// Whether nothing is due, in flight, or only waiting for a rest to end.
    fn is_empty(&self) -> bool {
        let resting = self.lanes.values().any(|lane| lane.hot);
        let soon = Instant::now() + Duration::from_millis(300);
        !resting
            && self.worker.tally.batches() == 0
            && self.look.next_due.is_none_or(|next| next > soon)
    }

    /// How long to sleep when no bell rings.
    fn sleep_for(&self) -> Duration {
        let poll = self.worker.options.poll;
        let until_due = |next: Instant| next.saturating_duration_since(Instant::now());
        self.look
            .next_due
            .map_or(poll, |next| until_due(next).min(poll))
            .max(Duration::from_millis(1))
    }
}

/// How many of the lanes asked for were looked at: none behind the one that made `total` rows.
fn lanes_visited(requests: &[LaneRequest], found: &[(String, i16, Leased)], total: usize) -> usize {
    let rows = found.iter().map(|(_, _, leased)| match leased {
        Leased::Batch { lease, .. } => lease.rows.len(),
        Leased::Cleared => 1,
        Leased::Nothing => 0,
    });
    let Some((appid, lane, _)) = found.last().filter(|_| rows.sum::<usize>() >= total) else {
        return requests.len();
    };
    requests
        .iter()
        .position(|request| request.appid == *appid && request.lane == *lane)
        .map_or(requests.len(), |last| last + 1)
}

impl Lane {
    /// It was asked in vain. After a sweep its watermark need not stay behind: there is nothing before now to find.
    fn found_nothing(&mut self, sweep: bool, clock: Option<Clock>) {
        self.hot = false;
        self.nothing_at = Some(Instant::now());
        if let (true, Some(clock)) = (sweep, clock) {
            self.watermark = Watermark {
                due: Some(clock.now() - LOOK_BACK),
                id: 0,
            };
        }
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
            rest: REST_MIN,
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
    fn now(&self) -> DateTime<Utc> {
        self.at + self.seen.elapsed()
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
