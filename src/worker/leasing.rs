//! The leaser: does what its [`Agenda`] says, against the database.
//!
//! Start at [`lease_until_stopped`]; the policy is in `agenda`, and what is left of rates in `slices`.

mod agenda;
mod slices;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use self::agenda::{Agenda, Known, Plan, Step};
use self::slices::Slices;
use super::Worker;
use super::waking::Bell;
use crate::lock::lock;
use crate::reconnect::Reconnect;
use crate::store::{Lease, LeaseRequest, Leased, SendingApp, StoreError};
use crate::telemetry;

/// So many rows more than four times the concurrency wait for their settle before leasing stops.
const UNSETTLED_MAX: usize = 4096;
/// A lane without rate left rests this long.
const RATE_REST: Duration = Duration::from_millis(50);

struct Leaser {
    worker: Arc<Worker>,
    leases: mpsc::Sender<Vec<Lease>>,
    bell: Bell,
    agenda: Agenda,
    /// Sends granted by rates.
    slices: Slices,
    logins_wait: bool,
    /// The server's identity when leases and watermarks were learnt.
    server: Option<String>,
    /// How many connections for leasing had been made when leases and watermarks were learnt.
    connections: u64,
    /// A lease request had no clear answer.
    unclear: bool,
}

/// Leases until the worker is told to stop, or, when asked to end at empty, until nothing is due.
pub(super) async fn lease_until_stopped(
    worker: Arc<Worker>,
    leases: mpsc::Sender<Vec<Lease>>,
    bell: Bell,
) {
    let stop = worker.stop.clone();
    let options = &worker.options;
    let mut leaser = Leaser {
        agenda: Agenda::new(options.until_empty, options.poll, Instant::now()),
        worker,
        leases,
        bell,
        slices: Slices::default(),
        logins_wait: false,
        server: None,
        connections: 0,
        unclear: false,
    };
    let mut waits = Reconnect::new();
    // Only waits are cut short by the stop: a lease request that is dropped half-way may leave a lease nobody knows.
    while !stop.is_cancelled() {
        match leaser.turn().await {
            Ok(true) => return,
            Ok(false) => waits = Reconnect::new(),
            Err(error) => {
                let wait = waits.next_wait();
                warn!("Leasing waits for the database: {error}");
                leaser.worker.health.database_failed(error.to_string());
                leaser.unclear = true;
                let _ = tokio::time::timeout(wait, stop.cancelled()).await;
            }
        }
    }
}

impl Leaser {
    /// Does the next thing. True: there is none.
    async fn turn(&mut self) -> Result<bool, StoreError> {
        if self.unclear || self.connections != self.worker.store.leasing_connections() {
            self.forget_after_trouble().await?;
        }
        self.wait_for_room().await;
        let step = self.next_step();
        let is_end = step == Step::End;
        match step {
            _ if self.worker.stop.is_cancelled() => {}
            Step::Lease(plan) => self.lease(plan).await?,
            Step::Look { before_sleep } => self.look(before_sleep).await?,
            Step::Doze(wait) => {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.bell.rung() => {}
                    () = self.worker.stop.cancelled() => {}
                }
                self.agenda.dozed(Instant::now());
            }
            Step::Sleep(longest) => {
                if self.bell.sleep(&self.worker, longest).await? {
                    self.agenda.rang(Instant::now());
                }
            }
            Step::End => {}
        }
        Ok(is_end)
    }

    fn next_step(&mut self) -> Step {
        let worker = &self.worker;
        let workers = worker.workers_alive.load(Ordering::Relaxed);
        self.agenda.next(&Known {
            now: Instant::now(),
            is_paused: &|appid| worker.is_paused(appid),
            has_rate: &|appid| has_rate(worker, appid),
            concurrency: worker.slots.limit(),
            waiting: worker.tally.waiting(),
            in_flight: worker.tally.in_flight(),
            batches: worker.tally.batches(),
            workers: usize::try_from(workers).unwrap_or(1),
            logins_wait: self.logins_wait,
        })
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
        self.agenda.forget(Instant::now());
        self.slices.clear();
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

    /// Waits, until it is told to stop, while enough rows are reserved ahead of the slots, or too many outcomes are not
    /// written.
    async fn wait_for_room(&mut self) {
        let tally = &self.worker.tally;
        let ahead = self.agenda.rows_ahead(self.worker.slots.limit());
        tally.ahead.store(ahead, Ordering::Relaxed);
        let unsettled_max = UNSETTLED_MAX + 4 * self.worker.options.concurrency;
        while tally.waiting() >= ahead || tally.unsettled.load(Ordering::Relaxed) >= unsettled_max {
            tokio::select! {
                () = tally.changed.notified() => {}
                () = self.worker.stop.cancelled() => return,
            }
        }
        let begun = tally.begun.load(Ordering::Relaxed);
        self.agenda.note_speed(begun, Instant::now());
    }

    /// Leases what was planned and passes it on.
    async fn lease(&mut self, mut plan: Plan) -> Result<(), StoreError> {
        let worker = self.worker.clone();
        let Some(rows) = self.rows_allowed(&plan).await? else {
            return Ok(());
        };
        // A lane that gives all that its rate allows may have more.
        plan.rows = rows;
        plan.total = plan.total.min(rows * plan.lanes.len());
        let request = LeaseRequest {
            lanes: &plan.lanes,
            worker: &worker.id,
            rows: plan.rows,
            total: plan.total,
            lease: worker.options.lease,
            start: plan.start,
        };
        let asked_at = Instant::now();
        let found = worker.store.lease(&request).await?;
        let now = Instant::now();
        worker.health.lease_polled();
        lock(&worker.known).extend(found.iter().filter_map(|lane| lane.leased.identity()));
        self.agenda.leased(&plan, &found, asked_at, now);
        let mut leases = Vec::with_capacity(found.len());
        for lane in found {
            if let Leased::Batch { lease, .. } = lane.leased {
                self.take_on(&lease, lane.lane, now - asked_at);
                leases.push(lease);
            }
        }
        if plan.lanes.len() > 1 {
            worker
                .tokens
                .warm(leases.iter().map(|lease| lease.appid.clone()));
        }
        if !leases.is_empty() {
            // To the opener, which ends only after us.
            let _ = self.leases.send(leases).await;
        }
        if !plan.is_guess {
            // The row that rang must not wait for it.
            self.bell.disarm(&self.worker).await?;
        }
        Ok(())
    }

    /// Counts a batch that is on its way now.
    fn take_on(&mut self, lease: &Lease, lane: i16, took: Duration) {
        let (appid, rows) = (&lease.appid, lease.rows.len());
        if self.slices.spend(appid, rows) {
            self.agenda.rest(appid, RATE_REST, Instant::now());
        }
        let tally = &self.worker.tally;
        tally.waiting.fetch_add(rows, Ordering::Relaxed);
        tally.unsettled.fetch_add(rows, Ordering::Relaxed);
        tally.batches.fetch_add(1, Ordering::Relaxed);
        telemetry::record_lease(appid, rows, took);
        debug!(rows, lane, "Leased {rows} rows of {appid}");
    }

    /// How many rows of each lane its rate lets us lease now. `None`: none, they rest.
    async fn rows_allowed(&mut self, plan: &Plan) -> Result<Option<usize>, StoreError> {
        self.slices.keep(|appid| has_rate(&self.worker, appid));
        let [lane] = plan.lanes.as_slice() else {
            return Ok(Some(plan.rows));
        };
        if !has_rate(&self.worker, &lane.appid) {
            return Ok(Some(plan.rows));
        }
        let rows = plan.rows.min(self.granted(&lane.appid, plan.rows).await?);
        if rows == 0 {
            self.agenda.rest(&lane.appid, RATE_REST, Instant::now());
            return Ok(None);
        }
        Ok(Some(rows))
    }

    /// How many rows the app's rate lets us lease now: what is left of the last slice, or a new one.
    async fn granted(&mut self, appid: &str, want: usize) -> Result<usize, StoreError> {
        if let Some(left) = self.slices.left(appid, Instant::now()) {
            return Ok(left);
        }
        let workers = i32::try_from(self.worker.workers_alive.load(Ordering::Relaxed)).unwrap_or(1);
        let most = i32::try_from(want).unwrap_or(i32::MAX);
        let granted = self.worker.store.take_rate(appid, most, workers).await?;
        let granted = usize::try_from(granted).unwrap_or(0);
        self.slices.grant(appid, granted, want, Instant::now());
        Ok(granted)
    }

    /// Looks which lanes have due rows.
    async fn look(&mut self, before_sleep: bool) -> Result<(), StoreError> {
        let worker = self.worker.clone();
        let appids = &worker.options.appids;
        // Before the look: a code that is exchanged after this question makes its row due before the look.
        self.logins_wait =
            before_sleep && worker.options.until_empty && worker.store.logins_wait(appids).await?;
        let began = Instant::now();
        let fronts = worker.store.fronts().await?;
        let ended = Instant::now();
        worker.health.lease_polled();
        let is_unknown =
            |appid: &String| appids.contains(appid) && find(&worker.apps(), appid).is_none();
        if fronts.iter().any(|front| is_unknown(&front.appid)) {
            // We have its secret: it may have been registered a moment ago.
            worker.refresh_apps().await?;
        }
        let apps = worker.apps();
        let is_ours = |appid: &str| find(&apps, appid).is_some() && !worker.is_paused(appid);
        for lane in self.agenda.learn(fronts, &is_ours, began, ended) {
            let _ = worker.blocked.send(lane);
        }
        Ok(())
    }
}

fn has_rate(worker: &Worker, appid: &str) -> bool {
    find(&lock(&worker.apps), appid).is_some_and(|app| app.has_rate)
}

/// The list is sorted by appid.
fn find<'a>(apps: &'a [SendingApp], appid: &str) -> Option<&'a SendingApp> {
    let at = apps.binary_search_by(|app| app.appid.as_str().cmp(appid));
    at.ok().map(|at| &apps[at])
}
