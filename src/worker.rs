//! The worker: lease → deliver → settle, until told to stop.
//!
//! Four kinds of tasks share one [`Worker`]. The *leaser* (`leasing`) reserves batches, one concurrency ahead of the
//! sends. The *opener* (`sending`) records a batch's start durably and hands its rows to the *slots* (`slots`), each of
//! which sends one at a time; how many of them do is the concurrency. A *settler* for each batch (`settling`) writes
//! outcomes, many a statement. Beside them login codes are exchanged for openids (`logins`). When nothing is due the
//! leaser sleeps until the bell rings (`waking`). Whatever crashes, a row is still pending or final: what was started and
//! not settled becomes a doubt, which any worker's maintenance makes of it.
//!
//! Start at [`run`].

mod leasing;
mod logins;
mod sending;
mod settling;
mod slots;
mod waking;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::slots::Slots;
use crate::config::{ConcurrencyMode, Settings};
use crate::delivery::Deliverer;
use crate::http::callback::Callbacks;
use crate::http::{self, Health};
use crate::lookups::Lookups;
use crate::maintenance;
use crate::notification::{Effect, PauseUntil};
use crate::retry::{Reconnect, RetryPolicy};
use crate::schema::{self, SchemaError, Standing};
use crate::store::{ClaimPolicy, DoubtPolicy, Route, SendingApp, Store, StoreError};
use crate::telemetry;
use crate::token_keeper::TokenKeeper;
use crate::wechat::errcode::ErrcodeTable;
use crate::wechat::{Dispute, Wechat, WechatOptions};

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

/// Why the worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database has no schema, or an older one than this program needs.
    #[error(
        "the database's schema is {found}, this is wxnotify {} (level {}): run `wxnotify migrate`, or start with `--migrate`",
        env!("CARGO_PKG_VERSION"),
        schema::OF_THIS_PROGRAM.level()
    )]
    Schema {
        /// What was found, in words.
        found: String,
    },
    /// Tables and texts are not of one build: a migration was interrupted, or this is another build of the same release.
    #[error(
        "the functions in the database are not those of this build of wxnotify {} (or a migration was interrupted): run `wxnotify migrate`",
        env!("CARGO_PKG_VERSION")
    )]
    OtherText,
    /// Migrations take a lock of their session, which a pooler would leave behind for ever.
    #[error(
        "migrations need the server itself, and WXNOTIFY_POOLER says that a pooler in transaction mode is in between: run `wxnotify migrate` with the server's address in DATABASE_URL and without WXNOTIFY_POOLER"
    )]
    MigrateThroughPooler,
    /// The database answers and takes no writes: a standby, or set so.
    #[error("{0}")]
    ReadOnly(&'static str),
    /// The schema could not be made, or has no use for this program.
    #[error(transparent)]
    Migrate(#[from] SchemaError),
    /// The database answered, but not as it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The WeChat client could not be built.
    #[error("the HTTP client could not be set up: {0}")]
    Wechat(String),
    /// The HTTP listener could not be bound.
    #[error(transparent)]
    Listen(#[from] std::io::Error),
}

impl RunError {
    /// Whether it may pass by itself, as a fail-over, a restart or a crowd of workers that start together does.
    fn passes(&self) -> bool {
        match self {
            Self::ReadOnly(_) => true,
            Self::Store(error) => error.passes(),
            _ => false,
        }
    }
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
    /// Leases this worker knows of, to tell them from what an unclear reply may have left: id, and when it was leased, since
    /// after a failover an id can be given out again while the lease that had it first is still remembered.
    known: Mutex<HashSet<LeaseName>>,
    /// Batches on their way, by the same names: their leases are kept alive until all is written.
    unsettled: Mutex<HashMap<LeaseName, Arc<sending::Batch>>>,
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
                // This only bridges the time until every lease sees the pause in the database.
                let span = match until {
                    PauseUntil::After(span) => (*span).min(LOCAL_PAUSE),
                    _ => LOCAL_PAUSE,
                };
                warn!(wechat.appid = %appid, "Mini-program {appid} is paused: {reason}");
                lock(&self.paused).insert(appid.clone(), Instant::now() + span);
            }
            if let Err(error) = self.store.apply_effect(&effect).await {
                warn!("A pause was not stored: {error}");
            }
        }
    }
}

/// Locks a mutex that is never held across a panic that matters.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    warn_of_unheeded_proxy(settings);
    let health = Health::new(settings.poll());
    let store = Store::connect_until(
        stop.clone(),
        settings.database(),
        settings.route(),
        settings.shares().statements,
        settings.statement_timeout(),
    );
    let listener = serve_http(settings, &store, &health).await?;
    let end = run_beside_listener(settings, options, store, stop, health).await;
    if let Some((server, shutdown)) = listener {
        shutdown.cancel();
        let _ = server.await;
    }
    end
}

/// Starts the HTTP listener before anything else, so that probes see a worker that waits for its database.
async fn serve_http(
    settings: &Settings,
    store: &Store,
    health: &Health,
) -> Result<Option<(JoinHandle<()>, CancellationToken)>, RunError> {
    let callbacks = Callbacks::of_settings(settings, store, settings.shares().events);
    let Some(address) = settings.listen() else {
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
    for advice in settings.advice() {
        warn!("{advice}");
    }
    warn_of_weak_commits(&worker.store).await;
    let upkeep = tokio::spawn(maintenance::run(worker.clone(), blocked_lanes));
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

/// Nothing here can make up for commits that a failover loses: whoever runs the database must know.
async fn warn_of_weak_commits(store: &Store) {
    match store.durability().await {
        Ok(durability) => {
            if let Some(weakness) = durability.weakness() {
                warn!("The database may forget what was sent: {weakness}");
            }
        }
        Err(error) => warn!("What commits wait for is not known: {error}"),
    }
}

/// Many programs heed these variables; who has set one for us must not wonder where our requests go.
fn warn_of_unheeded_proxy(settings: &Settings) {
    const UNHEEDED: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let is_set = |name: &&&str| std::env::var_os(**name).is_some_and(|value| !value.is_empty());
    if settings.https_proxy().is_none()
        && let Some(name) = UNHEEDED.iter().find(is_set)
    {
        warn!(
            "{name} is set and not heeded: WeChat is asked directly. For a proxy set WXNOTIFY_HTTPS_PROXY"
        );
    }
}

/// What a worker begins with.
struct Begin<'a> {
    settings: &'a Settings,
    options: RunOptions,
    store: Store,
    stop: CancellationToken,
    health: Health,
    blocked: mpsc::UnboundedSender<(String, i16)>,
}

impl Begin<'_> {
    /// Begins as soon as the database is there and can be written to, however long that takes.
    async fn until_begun(&self) -> Result<Worker, RunError> {
        let mut waits = Reconnect::new();
        loop {
            let error = match self.begin().await {
                Ok(worker) => return Ok(worker),
                Err(error) if error.passes() && !self.options.no_wait => error,
                Err(error) => return Err(error),
            };
            warn!("Waiting for the database: {error}");
            self.health.database_failed(error.to_string());
            tokio::time::sleep(waits.next_wait()).await;
        }
    }

    async fn begin(&self) -> Result<Worker, RunError> {
        if self.options.no_wait {
            // Statements go on trying to connect for a while.
            self.store.try_connecting().await?;
        }
        self.see_to_schema().await?;
        let worker = self.enlist().await?;
        // Before all others: without its connection nothing is sent.
        worker.store.server_identity().await?;
        self.health.database_ok();
        Ok(worker)
    }

    /// The schema is there and fits, or is made to, and rows can be written.
    async fn see_to_schema(&self) -> Result<(), RunError> {
        let found = self.store.read_schema_books().await?;
        if let Some(reason) = self.store.why_read_only().await? {
            return Err(RunError::ReadOnly(reason));
        }
        let standing = Standing::of(&found, &schema::OF_THIS_PROGRAM);
        match &standing {
            Standing::Current => return Ok(()),
            Standing::Served { release, level } => {
                info!(
                    "The schema is wxnotify {release}'s (level {level}), newer than this program, which it still serves"
                );
                return Ok(());
            }
            Standing::TooOld(books) => {
                return Err(SchemaError::too_old(books.clone(), &schema::OF_THIS_PROGRAM).into());
            }
            Standing::Behind { .. } | Standing::OtherText => {}
        }
        if !self.options.migrate {
            return Err(match standing {
                Standing::Behind { found } => RunError::Schema { found },
                _ => RunError::OtherText,
            });
        }
        if self.store.pool.route() == Route::TransactionPooler {
            return Err(RunError::MigrateThroughPooler);
        }
        let mut connection = self.store.connect().await?;
        let applied = schema::apply(&mut connection, &schema::OF_THIS_PROGRAM).await;
        for advice in applied?.advice {
            warn!("{advice}");
        }
        Ok(())
    }

    /// Registers the worker and builds what its tasks share.
    async fn enlist(&self) -> Result<Worker, RunError> {
        let (settings, store) = (self.settings, &self.store);
        let options = Options::of(settings, self.options);
        let name = settings.worker().to_owned();
        let epoch = store.enlist(&name, &options.appids).await?;
        let id = format!("{name}#{epoch}");
        let (wechat, tokens) = reach_wechat(settings, store, &id)?;
        let deliverer = build_deliverer(settings, store, wechat.clone(), tokens.clone()).await?;
        let lookups = Lookups::new(store.clone(), wechat, tokens.clone(), id.clone());
        // One is left for all that is no settle, if there is more than one.
        let settles = settings.shares().statements.saturating_sub(1).clamp(1, 4);
        let slots = Slots::new(
            options.concurrency_mode,
            options.concurrency_min,
            options.concurrency,
        );
        let worker = Worker {
            deliverer,
            lookups,
            tokens,
            health: self.health.clone(),
            options,
            id,
            name,
            epoch,
            tally: Tally::default(),
            stop: self.stop.clone(),
            abort: CancellationToken::new(),
            paused: Mutex::default(),
            known: Mutex::default(),
            unsettled: Mutex::default(),
            apps: Mutex::default(),
            blocked: self.blocked.clone(),
            logins_rung: Notify::new(),
            workers_alive: AtomicI64::new(1),
            settle_permits: Semaphore::new(settles as usize),
            small_settles: settling::SmallSettles::default(),
            disputes: Mutex::default(),
            slots,
            store: store.clone(),
        };
        worker.refresh_apps().await?;
        Ok(worker)
    }
}

/// The client for WeChat and the keeper of its tokens, which `worker` names itself to.
pub(crate) fn reach_wechat(
    settings: &Settings,
    store: &Store,
    worker: &str,
) -> Result<(Arc<Wechat>, TokenKeeper), RunError> {
    let wechat = Wechat::new(&WechatOptions {
        hosts: settings.api_base().to_vec(),
        proxy: settings.https_proxy().cloned(),
        connect_timeout: settings.connect_timeout(),
        request_timeout: settings.request_timeout(),
        idle_connections_max: settings.concurrency(),
        ..WechatOptions::default()
    });
    let wechat = Arc::new(wechat.map_err(|error| RunError::Wechat(error.to_string()))?);
    let tokens = TokenKeeper::new(
        store.clone(),
        wechat.clone(),
        secrets(settings),
        worker.to_owned(),
    );
    Ok((wechat, tokens))
}

/// What sends: the client, the keeper of its tokens, and the rules for WeChat's answers.
async fn build_deliverer(
    settings: &Settings,
    store: &Store,
    wechat: Arc<Wechat>,
    tokens: TokenKeeper,
) -> Result<Deliverer, RunError> {
    let policy = RetryPolicy {
        base: settings.backoff_base(),
        cap: settings.backoff_cap(),
    };
    let rules = ErrcodeTable::new(store.errcode_rules().await?);
    Ok(Deliverer::new(wechat, tokens, rules, policy))
}

/// The mini-programs this worker can send for.
fn secrets(settings: &Settings) -> HashMap<String, SecretString> {
    let apps = settings.apps().iter();
    apps.filter_map(|(appid, app)| Some((appid.clone(), app.secret.clone()?)))
        .collect()
}

impl Options {
    fn of(settings: &Settings, options: RunOptions) -> Self {
        let mut appids: Vec<String> = secrets(settings).into_keys().collect();
        appids.sort();
        Self {
            concurrency: settings.concurrency(),
            concurrency_min: settings.concurrency_min(),
            concurrency_mode: settings.concurrency_mode(),
            lease: settings.lease(),
            request_timeout: settings.request_timeout(),
            poll: settings.poll(),
            drain: settings.drain(),
            doubt: DoubtPolicy {
                window: settings.doubt_window(),
                age: settings.doubt_age(),
            },
            claim: ClaimPolicy {
                window: settings.claim_window(),
                holds_unclaimed: settings.holds_unclaimed_accepts(),
            },
            history_months: i32::try_from(settings.history_months()).unwrap_or(i32::MAX),
            appids,
            until_empty: options.until_empty,
        }
    }
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
    // The drain's time begins with the stop, whatever the leaser is waiting for.
    tokio::select! {
        () = worker.stop.cancelled() => {}
        _ = &mut leaser => {}
    }
    worker.health.stopping();
    no_more_logins.cancel();
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
