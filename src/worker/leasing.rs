//! The leaser: which lane next, from where, how many rows; and when there is nothing, how long to sleep.
//!
//! A lane is one `(appid, lane)`. A pick starts at the lane's *watermark*, looking back a second, because rows become
//! visible after their `due`. A *sweep* starts from the front and finds what the watermark has passed: rows of busy users,
//! transactions that committed late. Sweeps have a duty limit, so that a long dead front costs little.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::waking::Bell;
use super::{Worker, lock};
use crate::retry::Reconnect;
use crate::store::{Lease, LeaseRequest, Leased, SendingApp, StoreError, Watermark};
use crate::telemetry;

/// A pick looks this far behind its watermark.
const LOOK_BACK: Duration = Duration::from_secs(1);
/// A sweep comes no sooner than this after the one before, and no sooner than 50 times its own duration.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const SWEEP_DUTY: u32 = 50;
/// The most rows of one lease.
const LEASE_ROWS_MAX: usize = 512;
/// A batch should last about this long at the speed of the last second.
const BATCH_LASTS: Duration = Duration::from_millis(50);
/// After the last find a busy worker polls its lanes for this long before it goes to sleep.
const STAY_AWAKE: Duration = Duration::from_millis(60);
/// A lane whose due rows cannot be leased rests this long.
const BLOCKED_REST: Duration = Duration::from_millis(250);
/// A lane without rate left rests this long.
const RATE_REST: Duration = Duration::from_millis(100);
/// Above this many lanes with due rows one statement leases from several.
const LANES_ONE_BY_ONE: usize = 4;
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
    leases: mpsc::Sender<Lease>,
    lanes: BTreeMap<(String, i16), Lane>,
    apps: HashMap<String, App>,
    /// The mini-program of the last pick: the next pick begins behind it.
    last_app: String,
    clock: Option<Clock>,
    found_at: Instant,
    awake_wait: Duration,
    speed: Speed,
    /// The server's identity when leases and watermarks were learnt.
    server: Option<String>,
    /// How many connections the store had made when leases and watermarks were learnt.
    connections: u64,
    /// A lease request had no clear answer.
    unclear: bool,
}

/// Rows begun per second, over the last quarter of a second or more.
#[derive(Debug)]
struct Speed {
    since: Instant,
    begun: usize,
    per_second: f64,
}

/// Leases until the worker is told to stop, or, when asked to end at empty, until nothing is due.
pub(super) async fn lease_until_stopped(
    worker: Arc<Worker>,
    leases: mpsc::Sender<Lease>,
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
        speed: Speed {
            since: now,
            begun: 0,
            per_second: 0.0,
        },
        server: None,
        connections: 0,
        unclear: false,
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
        if self.unclear || self.connections != self.worker.store.connections() {
            self.forget_after_trouble().await?;
        }
        if !self.wait_for_room().await {
            return Ok(true);
        }
        if let Some(lanes) = self.next_lanes() {
            if let [(appid, lane)] = lanes.as_slice() {
                self.lease_from(appid, *lane).await?;
            } else {
                self.lease_from_many(&lanes).await?;
            }
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
        let next_due = self.look_for_lanes().await?;
        if self
            .lanes
            .values()
            .any(|lane| lane.hot && lane.rests_until <= Instant::now())
        {
            return Ok(true);
        }
        if self.worker.options.until_empty && self.is_empty(next_due) {
            return Ok(false);
        }
        if bell.sleep(&self.worker, self.sleep_for(next_due)).await? {
            for lane in self.lanes.values_mut() {
                lane.rests_until = Instant::now();
            }
        }
        Ok(true)
    }

    /// After an unclear answer, or on a new connection, when the server may be another: what was remembered of leases
    /// is void.
    async fn forget_after_trouble(&mut self) -> Result<(), StoreError> {
        let connections = self.worker.store.connections();
        let server = self.worker.store.server_identity().await?;
        if self.server.as_ref() != Some(&server) {
            if self.server.is_some() {
                info!("The database server was restarted or replaced: watermarks are forgotten");
            }
            self.server = Some(server);
        }
        self.lanes.clear();
        self.apps.clear();
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

    /// Waits while a concurrency of rows is reserved ahead of the slots. False: told to stop meanwhile.
    async fn wait_for_room(&mut self) -> bool {
        while self.worker.tally.waiting() >= self.worker.options.concurrency {
            tokio::select! {
                () = self.worker.tally.changed.notified() => {}
                () = self.worker.stop.cancelled() => return false,
            }
        }
        let begun = self.worker.tally.begun.load(Ordering::Relaxed);
        self.speed.update(begun);
        true
    }

    /// The rows a lease should have: as many as last [`BATCH_LASTS`], shared by the lanes that have something.
    fn rows_wanted(&self, lanes: usize) -> usize {
        let lasting = (self.speed.per_second * BATCH_LASTS.as_secs_f64()) as usize;
        let batch = lasting
            .max(self.worker.options.concurrency)
            .min(LEASE_ROWS_MAX);
        (batch / lanes.max(1)).clamp(8.min(batch), LEASE_ROWS_MAX)
    }

    /// The lanes to lease from now: one, or several when many are hot. Mini-programs take turns.
    fn next_lanes(&mut self) -> Option<Vec<(String, i16)>> {
        let now = Instant::now();
        let mut by_app: BTreeMap<&str, Vec<i16>> = BTreeMap::new();
        for ((appid, number), lane) in &self.lanes {
            if lane.hot && lane.rests_until <= now {
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
            (self.worker.options.concurrency * 2 / self.rows_wanted(turns.len()).max(1))
                .clamp(1, turns.len())
        } else {
            turns.len().min(1)
        };
        let mut lanes = Vec::with_capacity(count);
        for (appid, numbers) in turns.into_iter().take(count) {
            let app = self.apps.entry(appid.clone()).or_default();
            app.picks = app.picks.wrapping_add(1);
            let bulk_turn = app.picks.is_multiple_of(BULK_TURN) && numbers.contains(&2);
            let number = if bulk_turn { 2 } else { numbers[0] };
            self.last_app.clone_from(&appid);
            lanes.push((appid, number));
        }
        (!lanes.is_empty()).then_some(lanes)
    }

    /// Leases one batch from one lane and updates what is remembered of it.
    async fn lease_from(&mut self, appid: &str, number: i16) -> Result<(), StoreError> {
        let hot_apps = self.lanes.values().filter(|lane| lane.hot).count();
        let mut rows = self.rows_wanted(hot_apps);
        if self.has_rate(appid) {
            rows = rows.min(self.granted(appid, rows).await?);
            if rows == 0 {
                self.rest(appid, RATE_REST);
                return Ok(());
            }
        }
        let sweep = self.may_sweep(appid, number);
        let asked_at = Instant::now();
        let after = if sweep {
            Watermark::START
        } else {
            self.pick_from(appid, number)
        };
        let worker = self.worker.clone();
        let request = LeaseRequest {
            appid,
            lane: number,
            worker: &worker.id,
            after,
            low_lease_id: self.apps.get(appid).map_or(0, |app| app.low_lease_id),
            rows: i32::try_from(rows).unwrap_or(1),
            lease: worker.options.lease,
            start: worker.tally.waiting() == 0
                && worker.tally.in_flight() * 2 <= worker.options.concurrency,
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
                Leased::Nothing if sweep => {
                    // Due by its front, yet nothing can be leased.
                    lane.hot = false;
                    lane.rests_until = Instant::now() + BLOCKED_REST;
                    let _ = worker.blocked.send((appid.to_owned(), number));
                }
                Leased::Nothing => lane.hot = false,
                Leased::Cleared => {}
                Leased::Batch { lease, .. } => lane.hot = lease.rows.len() == rows,
            }
        }
        self.take(leased, appid, number, took).await;
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
        if free.is_empty() {
            return Ok(());
        }
        let rows = self.rows_wanted(free.len()).max(8);
        let asked_at = Instant::now();
        let worker = self.worker.clone();
        let lease = worker.options.lease;
        let many = worker
            .store
            .lease_many(
                &free,
                i32::try_from(rows).unwrap_or(8),
                &worker.id,
                lease,
                true,
            )
            .await?;
        worker.health.lease_polled();
        let took = asked_at.elapsed();
        for (appid, number) in &free {
            if let Some(lane) = self.lanes.get_mut(&(appid.clone(), *number)) {
                lane.hot = false;
                lane.rests_until = Instant::now() + BLOCKED_REST;
            }
        }
        for (appid, number, leased) in many {
            if let Some(lane) = self.lanes.get_mut(&(appid.clone(), number)) {
                lane.hot = match &leased {
                    Leased::Batch { lease, .. } => lease.rows.len() == rows,
                    Leased::Cleared => true,
                    Leased::Nothing => false,
                };
                lane.rests_until = Instant::now();
            }
            self.take(leased, &appid, number, took).await;
        }
        Ok(())
    }

    /// Remembers a batch's place and passes it on.
    async fn take(&mut self, leased: Leased, appid: &str, number: i16, took: Duration) {
        let Leased::Batch {
            lease,
            watermark,
            low_lease_id,
        } = leased
        else {
            return;
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
        }
        let app = self.apps.entry(appid.to_owned()).or_default();
        app.low_lease_id = low_lease_id;
        if let Some((granted, _)) = &mut app.granted {
            *granted -= i32::try_from(lease.rows.len()).unwrap_or(0);
        }
        let tally = &self.worker.tally;
        tally.waiting.fetch_add(lease.rows.len(), Ordering::Relaxed);
        tally.batches.fetch_add(1, Ordering::Relaxed);
        lock(&self.worker.known).insert(lease.lease_id);
        telemetry::record_lease(appid, lease.rows.len(), took);
        debug!(
            rows = lease.rows.len(),
            lane = number,
            "Leased {} rows of {appid}",
            lease.rows.len()
        );
        // The opener ends only after us.
        let _ = self.leases.send(lease).await;
    }

    fn has_rate(&self, appid: &str) -> bool {
        lock(&self.worker.apps)
            .iter()
            .any(|app| app.appid == appid && app.has_rate)
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
            due: Some(clock.at + clock.seen.elapsed() - LOOK_BACK),
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

    /// Learns which lanes have due rows. Returns when the next row of a lane that has none will be due.
    async fn look_for_lanes(&mut self) -> Result<Option<Duration>, StoreError> {
        let fronts = self.worker.store.fronts().await?;
        self.worker.health.lease_polled();
        let mut apps = self.worker.apps();
        let is_ours = |apps: &[SendingApp], appid: &str| apps.iter().any(|app| app.appid == appid);
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
            let lane = self
                .lanes
                .entry((front.appid, front.lane))
                .or_insert_with(|| Lane::new(now));
            if due_in_secs <= 0.0 {
                lane.hot = true;
                if lane.rests_until > now {
                    let rest = lane.rests_until - now;
                    next_due = Some(next_due.map_or(rest, |next| next.min(rest)));
                }
            } else {
                let due_in = Duration::from_secs_f64(due_in_secs.min(3600.0));
                next_due = Some(next_due.map_or(due_in, |next| next.min(due_in)));
            }
        }
        Ok(next_due)
    }

    /// Whether nothing is due, in flight, or only waiting for a rest to end.
    fn is_empty(&self, next_due: Option<Duration>) -> bool {
        let resting = self.lanes.values().any(|lane| lane.hot);
        !resting
            && self.worker.tally.batches() == 0
            && next_due.is_none_or(|next| next > Duration::from_millis(300))
    }

    /// How long to sleep when no bell rings.
    fn sleep_for(&self, next_due: Option<Duration>) -> Duration {
        let poll = self.worker.options.poll;
        next_due
            .map_or(poll, |next| next.min(poll))
            .max(Duration::from_millis(1))
    }
}

impl Lane {
    fn new(now: Instant) -> Self {
        Self {
            watermark: Watermark::START,
            hot: false,
            rests_until: now,
            swept_at: None,
            sweep_took: Duration::ZERO,
            found_at: None,
        }
    }
}

impl Speed {
    fn update(&mut self, begun: usize) {
        let elapsed = self.since.elapsed();
        if elapsed >= Duration::from_millis(250) {
            let rows = begun.wrapping_sub(self.begun);
            self.per_second =
                f64::from(u32::try_from(rows).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
            self.begun = begun;
            self.since = Instant::now();
        }
    }
}
