//! The worker: lease → deliver → settle, until told to stop.
//!
//! Four kinds of tasks share one [`Worker`]. The *leaser* (`leasing`) reserves batches, one concurrency ahead of the
//! sends. The *opener* (`sending`) records a batch's start durably and hands its rows to the *slots* (`slots`), each of
//! which sends one at a time; how many of them do is the concurrency. A *settler* for each batch (`settling`) writes
//! outcomes, many a statement. Beside them login codes are exchanged for openids (`logins`), reminders fire
//! (`reminders`) and the business is asked whether they are still true (`checking`). When nothing is due the
//! leaser sleeps until the bell rings (`waking`). Whatever crashes, a row is still pending or final: what was started and
//! not settled becomes a doubt, which any worker's maintenance makes of it.
//!
//! Start at [`run`].

mod batch;
mod checking;
mod leasing;
mod logins;
mod reminders;
mod sending;
mod settling;
mod slots;
mod starting;
mod upkeep;
mod waking;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::slots::Slots;
use self::starting::Begin;
use crate::config::{ConcurrencyMode, Settings};
use crate::delivery::Deliverer;
use crate::http::callback::Callbacks;
use crate::http::{self, Health};
use crate::lock::lock;
use crate::lookups::Lookups;
use crate::notification::{Effect, PauseUntil};
use crate::store::{ClaimPolicy, DoubtPolicy, SendingApp, Shares, Store, StoreError};
use crate::telemetry;
use crate::token_keeper::TokenKeeper;
use crate::wechat::Dispute;

pub use self::starting::RunError;
pub(crate) use self::starting::reach_wechat;

/// How long settling may go on after the drain's deadline has passed.
const LAST_SETTLES: Duration = Duration::from_secs(5);

/// How long rows that were leased before a pause are held back here.
const LOCAL_PAUSE: Duration = Duration::from_secs(5);

/// What a run is asked to do besides its settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// Apply migrations first.
    pub migrate: bool,
    /// End when nothing is due.
    pub until_empty: bool,
    /// Do not wait for a database that is away or cannot be written to at the start.
    pub no_wait: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    /// Everything leased was settled or given back.
    Drained,
    /// The drain's deadline passed first: some rows are in doubt now.
    DeadlinePassed,
}

/// A lease's id, and when it was leased.
type LeaseName = (i64, DateTime<Utc>);

/// What all tasks of one worker share.
pub(crate) struct Worker {
    pub(crate) store: Store,
    pub(crate) deliverer: Deliverer,
    pub(crate) lookups: Lookups,
    tokens: TokenKeeper,
    pub(crate) health: Health,
    pub(crate) options: Options,
    /// Name and epoch: what leases are fenced by.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) epoch: i64,
    pub(crate) tally: Tally,
    /// No more leases.
    pub(crate) stop: CancellationToken,
    /// No more waiting for replies.
    pub(crate) abort: CancellationToken,
    /// Mini-programs not to send for, before the database's pause is seen by every lease.
    paused: Mutex<HashMap<String, Instant>>,
    /// The same of templates, by mini-program and template.
    paused_templates: Mutex<HashMap<(String, String), Instant>>,
    /// Leases this worker knows of, to tell them from what an unclear reply may have left: id, and when it was leased, since
    /// after a failover an id can be given out again while the lease that had it first is still remembered.
    known: Mutex<HashSet<LeaseName>>,
    /// Batches on their way, by the same names: their leases are kept alive until all is written.
    unsettled: Mutex<HashMap<LeaseName, Arc<batch::Batch>>>,
    /// Registered mini-programs whose secret we have.
    apps: Mutex<Vec<SendingApp>>,
    /// Lanes whose front is due but cannot be leased: for maintenance to tidy.
    pub(crate) blocked: mpsc::UnboundedSender<(String, i16)>,
    /// Rung by the bell, for those who exchange login codes.
    logins_rung: Notify,
    /// Live workers, for shares of a rate.
    pub(crate) workers_alive: AtomicI64,
    /// At most this many settles at once, so that leases always get a connection.
    settle_permits: Semaphore,
    /// Settles of few rows that wait for each other.
    small_settles: settling::SmallSettles,
    /// Answers that came for two rows, until that is recorded of the one that was settled by it.
    disputes: Mutex<Vec<Dispute>>,
    /// Started rows on their way to the slots, and how many slots send.
    slots: Slots,
}

/// The settings the tasks need.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Sends in flight at most.
    pub(crate) concurrency: usize,
    pub(crate) concurrency_min: usize,
    pub(crate) concurrency_mode: ConcurrencyMode,
    pub(crate) lease: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) poll: Duration,
    pub(crate) drain: Duration,
    pub(crate) doubt: DoubtPolicy,
    pub(crate) claim: ClaimPolicy,
    pub(crate) history_months: i32,
    pub(crate) data_days: i32,
    pub(crate) openid_days: i32,
    pub(crate) appids: Vec<String>,
    pub(crate) until_empty: bool,
}

/// How many rows are where.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Leased, not yet begun.
    waiting: AtomicUsize,
    /// Being sent.
    in_flight: AtomicUsize,
    /// Batches not yet settled to the end.
    batches: AtomicUsize,
    /// Rows begun since the start.
    begun: AtomicUsize,
    /// Leased, their outcome not yet written.
    unsettled: AtomicUsize,
    /// Lease more when fewer than this are waiting.
    ahead: AtomicUsize,
    /// Rung when a row was begun or a batch ended.
    changed: Notify,
}

impl Tally {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn batches(&self) -> usize {
        self.batches.load(Ordering::Relaxed)
    }
}

impl Worker {
    /// The registered mini-programs whose secret this worker has.
    pub(crate) fn apps(&self) -> Vec<SendingApp> {
        lock(&self.apps).clone()
    }

    /// Reads again which mini-programs are registered.
    pub(crate) async fn refresh_apps(&self) -> Result<(), StoreError> {
        let apps = self.store.list_sending_apps(&self.options.appids).await?;
        *lock(&self.apps) = apps;
        Ok(())
    }

    /// The leases this worker knows of.
    pub(crate) fn known_leases(&self) -> Vec<i64> {
        lock(&self.known).iter().map(|(id, _)| *id).collect()
    }

    /// Whether sends of a mini-program are held back here.
    fn is_paused(&self, appid: &str) -> bool {
        let mut paused = lock(&self.paused);
        match paused.get(appid) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                paused.remove(appid);
                false
            }
            None => false,
        }
    }

    /// For how long rows of a template are still held back here; they may have been leased before it was paused.
    fn template_rests_for(&self, appid: &str, template_id: &str) -> Option<Duration> {
        let paused = lock(&self.paused_templates);
        if paused.is_empty() {
            return None;
        }
        let until = paused.get(&(appid.to_owned(), template_id.to_owned()))?;
        until.checked_duration_since(Instant::now())
    }

    /// Stores what an attempt means for more than its row, and heeds it here at once.
    async fn apply(&self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::PauseApp {
                appid,
                until,
                reason,
                ..
            } = &effect
            {
                warn!(wechat.appid = %appid, "Mini-program {appid} is paused: {reason}");
                lock(&self.paused).insert(appid.clone(), Instant::now() + local_span(*until));
            }
            if let Effect::PauseTemplate {
                appid,
                template_id,
                until,
                ..
            } = &effect
            {
                let (now, template) = (Instant::now(), (appid.clone(), template_id.clone()));
                let mut paused = lock(&self.paused_templates);
                paused.retain(|_, until| *until > now);
                paused.insert(template, now + local_span(*until));
            }
            if let Err(error) = self.store.apply_effect(&effect).await {
                warn!("A pause was not stored: {error}");
            }
        }
    }
}

/// How long a pause is heeded here: it only bridges the time until every lease sees it in the database.
fn local_span(until: PauseUntil) -> Duration {
    match until {
        PauseUntil::After(span) => span.min(LOCAL_PAUSE),
        _ => LOCAL_PAUSE,
    }
}

/// Runs a worker until `stop` is cancelled (finish what is in flight within the drain's deadline) or, with
/// `until_empty`, until nothing is due. The database may be away at the start: it is waited for.
///
/// # Errors
///
/// [`RunError`]; nothing was sent then.
pub async fn run(
    settings: &Settings,
    options: RunOptions,
    stop: CancellationToken,
) -> Result<RunEnd, RunError> {
    starting::warn_of_unheeded_proxy(settings);
    let health = Health::new(settings.poll);
    let store = Store::connect_until(
        stop.clone(),
        settings.database.clone(),
        settings.route(),
        shares(settings).statements,
        settings.statement_timeout,
    );
    let listener = serve_http(settings, &store, &health).await?;
    let end = run_beside_listener(settings, options, store, stop, health).await;
    if let Some((server, shutdown)) = listener {
        shutdown.cancel();
        let _ = server.await;
    }
    end
}

/// How this worker's connections are divided.
fn shares(settings: &Settings) -> Shares {
    let receives_events = settings.receives_events();
    Shares::of(settings.pool_connections, settings.route(), receives_events)
}

/// Starts the HTTP listener before anything else, so that probes see a worker that waits for its database.
async fn serve_http(
    settings: &Settings,
    store: &Store,
    health: &Health,
) -> Result<Option<(JoinHandle<()>, CancellationToken)>, RunError> {
    let callbacks = Callbacks::of_settings(settings, store, shares(settings).events);
    let Some(address) = settings.listen else {
        if callbacks.is_some() {
            warn!("WeChat's callbacks are not received: WXNOTIFY_LISTEN is empty");
        }
        return Ok(None);
    };
    // Only where they can be read: what is recorded and never read is kept for ever.
    let metrics = telemetry::record_metrics();
    let listener = http::bind(address).await?;
    let shutdown = CancellationToken::new();
    let (health, token) = (health.clone(), shutdown.clone());
    let server = tokio::spawn(async move {
        let routes = callbacks.map(Callbacks::into_router).unwrap_or_default();
        if let Err(error) = http::serve_with(listener, health, metrics, routes, token).await {
            warn!("The HTTP listener failed: {error}");
        }
    });
    Ok(Some((server, shutdown)))
}

async fn run_beside_listener(
    settings: &Settings,
    options: RunOptions,
    store: Store,
    stop: CancellationToken,
    health: Health,
) -> Result<RunEnd, RunError> {
    let (blocked, blocked_lanes) = mpsc::unbounded_channel();
    let begin = Begin {
        settings,
        options,
        store,
        stop: stop.clone(),
        health,
        blocked,
    };
    let Some(worker) = stop.run_until_cancelled(begin.until_begun()).await else {
        return Ok(RunEnd::Drained);
    };
    let worker = Arc::new(worker?);
    info!(
        worker = %worker.id,
        concurrency = worker.options.concurrency,
        apps = worker.options.appids.len(),
        "Worker {} started", worker.id
    );
    for advice in &settings.advice {
        warn!("{advice}");
    }
    starting::warn_of_weak_commits(&worker.store).await;
    let upkeep = tokio::spawn(upkeep::run(worker.clone(), blocked_lanes));
    let tokens = worker.tokens.clone();
    let refreshes = tokio::spawn(async move { tokens.keep_fresh().await });
    let end = work(&worker).await;
    refreshes.abort();
    upkeep.abort();
    if let Err(error) = worker.store.retire(&worker.name, worker.epoch).await {
        warn!("The stop was not recorded: {error}");
    }
    info!(worker = %worker.id, "Worker {} stopped", worker.id);
    Ok(end)
}

/// The loop's tasks, then the graceful stop.
async fn work(worker: &Arc<Worker>) -> RunEnd {
    let (leases, leased) = mpsc::channel(1);
    let bell = waking::listen(worker.clone());
    let mut leaser = tokio::spawn(leasing::lease_until_stopped(worker.clone(), leases, bell));
    let opener = tokio::spawn(sending::open_batches(worker.clone(), leased));
    let keeper = tokio::spawn(settling::keep_leases(worker.clone()));
    let mut slots = JoinSet::new();
    for slot in 0..worker.options.concurrency {
        slots.spawn(sending::send_rows(worker.clone(), slot));
    }
    let no_more_logins = CancellationToken::new();
    let logins = logins::exchange_until_stopped(worker.clone(), no_more_logins.clone());
    let logins = tokio::spawn(logins);
    let reminders = tokio::spawn(reminders::fire_until_stopped(worker.clone()));
    let checks = tokio::spawn(checking::ask_until_stopped(worker.clone()));
    // The drain's time begins with the stop, whatever the leaser is waiting for.
    tokio::select! {
        () = worker.stop.cancelled() => {}
        _ = &mut leaser => {}
    }
    worker.health.stopping();
    no_more_logins.cancel();
    reminders.abort();
    checks.abort();
    let drained = async {
        if !leaser.is_finished() {
            let _ = leaser.await;
        }
        let _ = opener.await;
        let _ = logins.await;
        while slots.join_next().await.is_some() {}
        while worker.tally.batches() > 0 {
            worker.tally.changed.notified().await;
        }
    };
    tokio::pin!(drained);
    let in_time = tokio::time::timeout(worker.options.drain, &mut drained).await;
    if in_time.is_ok() {
        keeper.abort();
        return RunEnd::Drained;
    }
    warn!("The drain's deadline has passed: what is still in flight is in doubt");
    worker.abort.cancel();
    if tokio::time::timeout(LAST_SETTLES, drained).await.is_err() {
        warn!(
            "Not everything could be settled: other workers will put the rest in doubt when its leases lapse"
        );
    }
    keeper.abort();
    RunEnd::DeadlinePassed
}
