//! How a worker begins: it waits for its database, sees to the schema, registers itself, and builds what its tasks share.
//!
//! Start at [`Begin::until_begun`].

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::slots::Slots;
use super::{Options, RunOptions, Tally, Worker, settling};
use crate::config::{Settings, UnclaimedAccept};
use crate::delivery::Deliverer;
use crate::http::Health;
use crate::lookups::Lookups;
use crate::reconnect::Reconnect;
use crate::retry::RetryPolicy;
use crate::schema::{self, SchemaError, Standing};
use crate::store::{ClaimPolicy, DoubtPolicy, Route, Store, StoreError};
use crate::token_keeper::TokenKeeper;
use crate::wechat::errcode::ErrcodeTable;
use crate::wechat::{Wechat, WechatOptions};

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

/// Nothing here can make up for commits that a failover loses: whoever runs the database must know.
pub(super) async fn warn_of_weak_commits(store: &Store) {
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
pub(super) fn warn_of_unheeded_proxy(settings: &Settings) {
    const UNHEEDED: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let is_set = |name: &&&str| std::env::var_os(**name).is_some_and(|value| !value.is_empty());
    if settings.https_proxy.is_none()
        && let Some(name) = UNHEEDED.iter().find(is_set)
    {
        warn!(
            "{name} is set and not heeded: WeChat is asked directly. For a proxy set WXNOTIFY_HTTPS_PROXY"
        );
    }
}

/// What a worker begins with.
pub(super) struct Begin<'a> {
    pub(super) settings: &'a Settings,
    pub(super) options: RunOptions,
    pub(super) store: Store,
    pub(super) stop: CancellationToken,
    pub(super) health: Health,
    pub(super) blocked: mpsc::UnboundedSender<(String, i16)>,
}

impl Begin<'_> {
    /// Begins as soon as the database is there and can be written to, however long that takes.
    pub(super) async fn until_begun(&self) -> Result<Worker, RunError> {
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
        let name = settings.worker.clone();
        let epoch = store.enlist(&name, &options.appids).await?;
        let id = format!("{name}#{epoch}");
        let (wechat, tokens) = reach_wechat(settings, store, &id)?;
        let deliverer = build_deliverer(settings, store, wechat.clone(), tokens.clone()).await?;
        let lookups = Lookups::new(store.clone(), wechat, tokens.clone(), id.clone());
        // One is left for all that is no settle, if there is more than one.
        let settles = super::shares(settings)
            .statements
            .saturating_sub(1)
            .clamp(1, 4);
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
            paused_templates: Mutex::default(),
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
        hosts: settings.api_base.clone(),
        proxy: settings.https_proxy.clone(),
        connect_timeout: settings.connect_timeout,
        request_timeout: settings.request_timeout,
        idle_connections_max: settings.concurrency,
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
        base: settings.backoff_base,
        cap: settings.backoff_cap,
    };
    let rules = ErrcodeTable::new(store.errcode_rules().await?);
    Ok(Deliverer::new(wechat, tokens, rules, policy))
}

/// The mini-programs this worker can send for.
fn secrets(settings: &Settings) -> HashMap<String, SecretString> {
    let apps = settings.apps.iter();
    apps.filter_map(|(appid, app)| Some((appid.clone(), app.secret.clone()?)))
        .collect()
}

impl Options {
    fn of(settings: &Settings, options: RunOptions) -> Self {
        let mut appids: Vec<String> = secrets(settings).into_keys().collect();
        appids.sort();
        Self {
            concurrency: settings.concurrency,
            concurrency_min: settings.concurrency_min,
            concurrency_mode: settings.concurrency_mode,
            lease: settings.lease,
            request_timeout: settings.request_timeout,
            poll: settings.poll,
            drain: settings.drain,
            doubt: DoubtPolicy {
                window: settings.doubt_window,
                age: settings.doubt_age,
            },
            claim: ClaimPolicy {
                window: settings.claim_window,
                holds_unclaimed: settings.unclaimed_accept == UnclaimedAccept::Hold,
            },
            history_months: settings.history_months,
            data_days: settings.data_days,
            openid_days: settings.openid_days,
            appids,
            until_empty: options.until_empty,
        }
    }
}
