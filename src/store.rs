//! Every SQL statement of the program: one function here or in a part below, one file in `sql/`.
//!
//! A notification is *due* when its time has come and nothing else holds it back, *leased* while a live row of
//! `notification_leases` names it, *in doubt* when a send of it may have reached WeChat, and *settled* when an outcome
//! was recorded. The kernel's rules live in the database's own functions (`sql/schema/`), so that every statement here is
//! one call; this module turns rows into [`Notification`]s and [`Outcome`]s into arrays. No other module names a table.
//!
//! Start at [`Store::lease`], then [`Store::start`], [`Store::settle`] and [`Store::rescue`].

mod apps;
pub mod batches;
mod connecting;
mod connections;
pub mod console;
pub mod credits;
pub mod doctor;
mod errcodes;
mod events;
mod kernel;
mod kinds;
pub mod quotas;
pub(crate) mod statement;
pub mod status;
pub mod templates;
mod tokens;
mod upkeep;
pub mod verbs;
mod workers;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};
use tokio_util::sync::CancellationToken;

use crate::notification::{Kind, Notification, Openid, Outcome, Verdict};
use crate::wechat::Dispute;
use crate::{failpoint, telemetry};

pub use crate::address::{Address, Route};
pub(crate) use crate::legible::describe;
pub use apps::SendingApp;
pub use connections::{Borrowed, Connections, Sessions};
pub use credits::ClaimPolicy;
pub use events::{EVENTS_A_CALL, Punishment};
pub use kernel::Front;
pub use templates::{Lookup, TemplateChanges};
pub use tokens::{StoredToken, TokenClaim, TokenStatus};
pub use upkeep::Durability;

/// How long a statement may take unless a setting says otherwise.
const DEADLINE: Duration = Duration::from_secs(10);
/// The server ends a statement this much later than its client gives up on it.
const SERVER_GIVES_UP_LATER: Duration = Duration::from_secs(1);

/// What commits wait for in our sessions. That a send may have begun, and how it ended, must not be lost in a crash; with `off` it
/// would be for a moment. `local` and not `on`: whether standbys are waited for is for whoever runs the server to say.
const COMMIT_DURABLY: &str = "case current_setting('synchronous_commit') when 'off' then 'local' else current_setting('synchronous_commit') end";

/// How a worker's connections are divided; together they are what `WXNOTIFY_POOL_CONNECTIONS` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// For all that is neither of the others.
    pub statements: u32,
    /// For WeChat's events, so that a burst of them holds up nothing, nor the other way round; 0: they share the others'.
    pub events: u32,
}

impl Shares {
    /// One leases, and without a pooler one listens; the rest is divided here.
    #[must_use]
    pub fn of(connections: u32, route: Route, receives_events: bool) -> Self {
        let own = match route {
            Route::Direct => 2,
            Route::TransactionPooler => 1,
        };
        let rest = connections.saturating_sub(own).max(1);
        let events = u32::from(receives_events && rest > 1);
        Self {
            statements: rest - events,
            events,
        }
    }
}

/// The database, as the rest of the program sees it.
#[derive(Debug, Clone)]
pub struct Store {
    /// Few connections, whatever the concurrency: no send holds one.
    pub pool: Connections,
    /// The connections of the leaser and the bell: always free for them, and warm, since a row that wakes a worker waits for
    /// them.
    leasing: Connections,
    /// A statement that has no answer by then failed, whatever became of it.
    deadline: Duration,
    /// For whom operators' statements are run; `None`: for the login itself.
    acting: Option<Arc<verbs::Acting>>,
}

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer in time; whether the statement took effect is unknown.
    #[error("{statement}: no answer from the database within {} s", waited.as_secs())]
    Deadline {
        /// The name of the statement, as in `sql/`.
        statement: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// The database or the way to it failed. After a broken connection the effect is unknown.
    #[error("{statement}: {}", describe(source))]
    Database {
        /// The name of the statement, as in `sql/`.
        statement: &'static str,
        /// What sqlx reported. Not shown whole: a database error's detail may hold a row.
        source: sqlx::Error,
    },
}

/// A value in an answer that no type of ours holds, a time beyond all times for one, makes its decoder panic: that costs the
/// statement, not the task that waits for it.
async fn unless_it_panics<T>(query: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answered = AssertUnwindSafe(query).catch_unwind().await;
    answered.unwrap_or_else(|_| Err(unreadable()))
}

fn unreadable() -> sqlx::Error {
    sqlx::Error::Decode("the answer holds a value that cannot be read".into())
}

impl StoreError {
    /// The server understood the statement and refused its values; the same values will be refused again.
    ///
    /// A missing partition is also reported as a violated check, but names no constraint: it passes when the partition is
    /// made.
    #[must_use]
    pub fn is_data_error(&self) -> bool {
        let Self::Database {
            source: sqlx::Error::Database(refused),
            ..
        } = self
        else {
            return false;
        };
        let code = refused.code().unwrap_or_default();
        code.starts_with("22") || (code.starts_with("23") && refused.constraint().is_some())
    }

    /// The server understood the statement and refused it for what it says or meets: values, or what others hung on our
    /// tables. Nothing that passes by itself: no connection, no lock, no end by somebody, no lack of anything.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        /// SQLSTATE classes that say nothing about rows.
        const PASSING: [&str; 8] = ["08", "25", "40", "53", "55", "57", "58", "XX"];
        self.sqlstate().is_some_and(|code| {
            !PASSING.iter().any(|class| code.starts_with(class)) && !self.is_missing_partition()
        })
    }

    /// A row found no partition of its month: a violated check that names no constraint.
    #[must_use]
    pub fn is_missing_partition(&self) -> bool {
        let Self::Database {
            source: sqlx::Error::Database(refused),
            ..
        } = self
        else {
            return false;
        };
        refused.code().is_some_and(|code| code == "23514") && refused.constraint().is_none()
    }

    /// The five-character code of the server's refusal, if the server answered.
    #[must_use]
    pub fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Database {
                source: sqlx::Error::Database(refused),
                ..
            } => refused.code().map(std::borrow::Cow::into_owned),
            _ => None,
        }
    }
}

impl StoreError {
    /// Whether it may pass by itself: the way to the server or the server's own state, not what was asked of it.
    #[must_use]
    pub fn passes(&self) -> bool {
        let Self::Database { source, .. } = self else {
            return true;
        };
        match source {
            sqlx::Error::Database(refused) => {
                let code = refused.code().unwrap_or_default();
                let class = code.get(..2).unwrap_or_default();
                // Connections, read-only for now, collisions, no resources, locks, shutdown, the system below.
                matches!(class, "08" | "25" | "40" | "53" | "55" | "57" | "58")
            }
            sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::RowNotFound => false,
            _ => true,
        }
    }
}

/// Where a pick starts: behind the last `(due, id)` that was seen.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Watermark {
    /// `None`: from the beginning.
    pub due: Option<DateTime<Utc>>,
    /// Tells rows of one `due` apart.
    pub id: i64,
}

impl Watermark {
    /// Before every row.
    pub const START: Self = Self { due: None, id: 0 };
}

/// What to lease.
#[derive(Debug, Clone)]
pub struct LeaseRequest<'a> {
    /// The one whose rows are leased, under its lock.
    pub appid: &'a str,
    /// 0, 1 or 2.
    pub lane: i16,
    /// Name and epoch of this worker: the fence.
    pub worker: &'a str,
    /// Where to begin.
    pub after: Watermark,
    /// The smallest live lease of the mini-program seen before, 0 if unknown; keeps dead lease rows out of the way.
    pub low_lease_id: i64,
    /// At most this many rows, 1 to 512.
    pub rows: i32,
    /// Until anyone may rescue it.
    pub lease: Duration,
    /// Whether its sends begin at once.
    pub start: bool,
}

/// One lane of [`Store::lease_many`].
#[derive(Debug, Clone)]
pub struct LaneRequest {
    /// The one whose rows are leased.
    pub appid: String,
    /// 0, 1 or 2.
    pub lane: i16,
    /// Where to begin.
    pub after: Watermark,
    /// As in [`LeaseRequest`].
    pub low_lease_id: i64,
}

/// Outcomes of one lease for [`Store::settle_many`].
#[derive(Debug)]
pub struct SettleRequest {
    /// The lease.
    pub lease: LeaseKey,
    /// What became of some of its rows.
    pub outcomes: Arc<Vec<Outcome>>,
    /// No more will come.
    pub close: bool,
}

/// One leased batch: rows of one mini-program and lane, one row per user.
#[derive(Debug)]
pub struct Lease {
    /// Whose rows they all are; its token sends them.
    pub appid: String,
    /// Unique within the mini-program.
    pub lease_id: i64,
    /// When it was leased, by the database's clock; tells it from another lease of a reissued id.
    pub leased_at: DateTime<Utc>,
    /// The same moment by this process's clock, taken before the request left: never later than the truth.
    pub asked_at: Instant,
    /// The durable start, when it was started at once.
    pub started_at: Option<DateTime<Utc>>,
    /// In pick order. A row that breaks an invariant is an error in its place: `(id, reason)`.
    pub rows: Vec<Result<Notification, CorruptRow>>,
}

/// A leased row this version cannot send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptRow {
    /// The row.
    pub id: i64,
    /// What is wrong with it, without its contents.
    pub reason: String,
}

/// The answer to a lease.
#[derive(Debug)]
pub enum Leased {
    /// Nothing to lease behind the watermark.
    Nothing,
    /// Nothing was leased, but rows were cleared out of the way: ask again.
    Cleared,
    /// A batch.
    Batch {
        /// The rows.
        lease: Lease,
        /// The last row's place.
        watermark: Watermark,
        /// The smallest live lease.
        low_lease_id: i64,
    },
}

impl Leased {
    /// The lease's id and when it was leased, if there is one.
    #[must_use]
    pub fn identity(&self) -> Option<(i64, DateTime<Utc>)> {
        match self {
            Self::Batch { lease, .. } => Some((lease.lease_id, lease.leased_at)),
            Self::Nothing | Self::Cleared => None,
        }
    }

    /// How many rows were leased.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Batch { lease, .. } => lease.rows.len(),
            Self::Nothing | Self::Cleared => 0,
        }
    }
}

/// What settle answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// All but these ids were recorded; somebody holds these rows: settle them again.
    KeptBack(Vec<i64>),
    /// The lease is gone: it was rescued, or this was the repeat of a settle that closed it.
    Fenced,
}

/// Binds outcomes and the policy for doubts to settle's statements, whose last arguments are alike.
macro_rules! bind_outcomes {
    ($query:expr, $columns:expr, $doubt:expr) => {
        $query
            .bind($columns.sent_ids)
            .bind($columns.sent_msgids)
            .bind($columns.ids)
            .bind($columns.verdicts)
            .bind($columns.delays_secs)
            .bind($columns.waiting_for)
            .bind($columns.errcodes)
            .bind($columns.errmsgs)
            .bind($columns.rids)
            .bind($columns.http_statuses)
            .bind($columns.reasons)
            .bind($columns.response_ms)
            .bind($columns.credits)
            .bind($doubt.window.as_secs_f64())
            .bind($doubt.age.as_secs_f64())
    };
}

/// How sessions are prepared for statements with this deadline.
fn sessions(route: Route, deadline: Duration, stop: CancellationToken) -> Sessions {
    Sessions {
        route,
        limit: deadline + SERVER_GIVES_UP_LATER,
        // Sooner than the statement's own, so that what the server said is heard.
        within: deadline.mul_f64(0.9),
        stop,
    }
}

/// What every session of ours is told.
async fn prepare_session(connection: &mut PgConnection, limit: Duration) -> sqlx::Result<()> {
    let settings = format!(
        // Just-in-time compilation takes longer than any statement of ours.
        "select set_config('statement_timeout', $1, false), set_config('jit', 'off', false), \
         set_config('default_transaction_isolation', 'read committed', false), \
         set_config('tcp_keepalives_idle', '30', false), \
         set_config('tcp_keepalives_interval', '10', false), \
         set_config('tcp_keepalives_count', '3', false), \
         set_config('synchronous_commit', {COMMIT_DURABLY}, false)"
    );
    sqlx::query(AssertSqlSafe(settings))
        .bind(limit.as_millis().to_string())
        .execute(connection)
        .await?;
    Ok(())
}

impl Store {
    /// A store that leads where a pool does, with the default deadline and as many connections.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        let address = Address::from(pool.connect_options().as_ref().clone());
        let connections_max = pool.options().get_max_connections();
        Self::connect_lazy(address, Route::Direct, connections_max, DEADLINE)
    }

    /// As [`Self::connect_until`], without an end.
    #[must_use]
    pub fn connect_lazy(
        address: Address,
        route: Route,
        statements: u32,
        deadline: Duration,
    ) -> Self {
        let stop = CancellationToken::new();
        Self::connect_until(stop, address, route, statements, deadline)
    }

    /// A store that opens connections when they are needed, one of them for leasing and at most `statements` for the rest; it does
    /// not touch the network yet.
    ///
    /// Every statement works in READ COMMITTED whatever the database's default, and the server ends it a little after its
    /// client gave up, so that no forgotten session keeps a lock. A session whose network is gone ends within a minute instead
    /// of the system's two hours. Once `stop` is cancelled, a database that is away is not waited for any more.
    #[must_use]
    pub fn connect_until(
        stop: CancellationToken,
        address: Address,
        route: Route,
        statements: u32,
        deadline: Duration,
    ) -> Self {
        let sessions = sessions(route, deadline, stop);
        let pool = Connections::new(address.clone(), statements.max(1), sessions.clone());
        // Without leases nothing is sent, so their connection comes first.
        let leasing = Connections::before(Some(pool.clone()), address, 1, sessions);
        Self {
            pool,
            leasing,
            deadline,
            acting: None,
        }
    }

    /// The same for what comes in from outside, with connections of its own and another deadline; without any, it shares these.
    #[must_use]
    pub fn beside(&self, connections: u32, deadline: Duration) -> Self {
        let pool = match connections {
            0 => self.pool.clone(),
            connections => Connections::before(
                Some(self.pool.clone()),
                self.pool.address().clone(),
                connections,
                sessions(self.pool.route(), deadline, CancellationToken::new()),
            ),
        };
        Self {
            pool,
            leasing: self.leasing.clone(),
            deadline,
            acting: None,
        }
    }

    /// The same for what can wait: when connections are short, others get them first.
    #[must_use]
    pub fn giving_way(&self) -> Self {
        Self {
            pool: self.pool.giving_way(),
            ..self.clone()
        }
    }

    /// How many connections were made for leasing so far.
    #[must_use]
    pub fn leasing_connections(&self) -> u64 {
        self.leasing.made()
    }

    /// How long a statement may take.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A connection for more than one statement, a migration for instance.
    ///
    /// # Errors
    ///
    /// None could be had.
    pub async fn borrow(&self) -> Result<Borrowed, StoreError> {
        self.run("connect", self.pool.borrow()).await
    }

    /// Whether the database can be connected to now, without trying for long.
    ///
    /// # Errors
    ///
    /// It cannot.
    pub async fn try_connecting(&self) -> Result<(), StoreError> {
        let connection = self.connect().await?;
        self.run("connect", connection.close()).await
    }

    /// Why the database takes no writes; `None`: it takes them.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn why_read_only(&self) -> Result<Option<&'static str>, StoreError> {
        let statement = connecting::SESSION_STATE;
        let query = statement.query_as();
        let state = self
            .run(statement.name, query.fetch_one(&self.pool))
            .await?;
        let reason = connecting::why_read_only(state);
        if reason.is_some() {
            // A session keeps the default that it began with.
            self.pool.distrust_idle();
        }
        Ok(reason)
    }

    /// Runs one statement within the deadline and counts its failure.
    async fn run<T>(
        &self,
        statement: &'static str,
        query: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, StoreError> {
        failpoint::pass("before", statement);
        // Boxed: a command holds the futures of many statements side by side, and its thread's stack is small.
        let query = failpoint::during(statement, Box::pin(unless_it_panics(query)));
        let result = match tokio::time::timeout(self.deadline, query).await {
            Ok(Ok(value)) => {
                failpoint::pass("after", statement);
                return Ok(value);
            }
            Ok(Err(source)) => StoreError::Database { statement, source },
            Err(_) => {
                self.pool.distrust_idle();
                self.leasing.distrust_idle();
                StoreError::Deadline {
                    statement,
                    waited: self.deadline,
                }
            }
        };
        telemetry::record_database_error(statement);
        Err(result)
    }

    /// Leases due rows of one mini-program and lane.
    ///
    /// # Errors
    ///
    /// After an error rows may have been leased without us knowing: call [`Store::drop_unknown`].
    pub async fn lease(&self, request: &LeaseRequest<'_>) -> Result<Leased, StoreError> {
        let asked_at = Instant::now();
        let query = sqlx::query(include_str!("../sql/lease.sql"))
            .bind(request.appid)
            .bind(request.lane)
            .bind(request.worker)
            .bind(request.after.due.unwrap_or(DateTime::<Utc>::UNIX_EPOCH))
            .bind(request.after.id)
            .bind(request.low_lease_id)
            .bind(request.rows)
            .bind(request.lease.as_secs_f64())
            .bind(request.start);
        let rows = self.run("lease", query.fetch_all(&self.leasing)).await?;
        self.read("lease", || read_lease(request.appid, &rows, 0, asked_at))
    }

    /// Leases at most `rows` rows of each lane, one after the other until `total` are leased; busy mini-programs are
    /// passed over.
    ///
    /// # Errors
    ///
    /// As [`Store::lease`].
    pub async fn lease_many(
        &self,
        lanes: &[LaneRequest],
        rows: i32,
        total: i32,
        worker: &str,
        lease: Duration,
        start: bool,
    ) -> Result<Vec<(String, i16, Leased)>, StoreError> {
        let asked_at = Instant::now();
        let dues = lanes
            .iter()
            .map(|lane| lane.after.due.unwrap_or(DateTime::<Utc>::UNIX_EPOCH));
        let query = sqlx::query(include_str!("../sql/lease_many.sql"))
            .bind(
                lanes
                    .iter()
                    .map(|lane| lane.appid.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(lanes.iter().map(|lane| lane.lane).collect::<Vec<_>>())
            .bind(dues.collect::<Vec<_>>())
            .bind(lanes.iter().map(|lane| lane.after.id).collect::<Vec<_>>())
            .bind(
                lanes
                    .iter()
                    .map(|lane| lane.low_lease_id)
                    .collect::<Vec<_>>(),
            )
            .bind(worker)
            .bind(rows)
            .bind(total)
            .bind(lease.as_secs_f64())
            .bind(start);
        let rows = self
            .run("lease_many", query.fetch_all(&self.leasing))
            .await?;
        self.read("lease_many", || {
            rows.chunk_by(|a, b| same_lane(a, b).unwrap_or(false))
                .map(|group| {
                    let (appid, lane): (String, i16) = (group[0].try_get(0)?, group[0].try_get(1)?);
                    let leased = read_lease(&appid, group, 2, asked_at)?;
                    Ok((appid, lane, leased))
                })
                .collect()
        })
    }

    /// Turns a decoding failure into the statement's error.
    fn read<T>(
        &self,
        statement: &'static str,
        rows: impl FnOnce() -> sqlx::Result<T>,
    ) -> Result<T, StoreError> {
        std::panic::catch_unwind(AssertUnwindSafe(rows))
            .unwrap_or_else(|_| Err(unreadable()))
            .map_err(|source| StoreError::Database { statement, source })
    }

    /// Records durably that the lease's rows may be sent from now on, or renews a started lease. `None`: it is gone.
    ///
    /// # Errors
    ///
    /// The start may or may not have been recorded: call it again, or send nothing and let the lease lapse.
    pub async fn start(
        &self,
        lease: &LeaseKey,
        length: Duration,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let query = sqlx::query_scalar(include_str!("../sql/start.sql"))
            .bind(&lease.appid)
            .bind(lease.lease_id)
            .bind(&lease.worker)
            .bind(length.as_secs_f64())
            .bind(lease.leased_at);
        self.run("start", query.fetch_one(&self.pool)).await
    }

    /// As [`Store::start`], for several leases of one worker in one commit. Returns the ids and starts of those that
    /// are not gone.
    ///
    /// # Errors
    ///
    /// As [`Store::start`].
    pub async fn start_many(
        &self,
        leases: &[LeaseKey],
        length: Duration,
    ) -> Result<Vec<(i64, DateTime<Utc>)>, StoreError> {
        let Some(first) = leases.first() else {
            return Ok(Vec::new());
        };
        let appids = leases.iter().map(|lease| lease.appid.as_str());
        let query = sqlx::query_as(include_str!("../sql/start_many.sql"))
            .bind(appids.collect::<Vec<_>>())
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.lease_id)
                    .collect::<Vec<_>>(),
            )
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.leased_at)
                    .collect::<Vec<_>>(),
            )
            .bind(&first.worker)
            .bind(length.as_secs_f64());
        self.run("start_many", query.fetch_all(&self.pool)).await
    }

    /// Lets started leases of one worker last for `length` from now; one whose row a settle of it holds at this moment is
    /// passed over. Returns the ids of those that last longer.
    ///
    /// # Errors
    ///
    /// They may or may not last longer: ask again.
    pub async fn renew(
        &self,
        leases: &[LeaseKey],
        length: Duration,
    ) -> Result<Vec<i64>, StoreError> {
        let Some(first) = leases.first() else {
            return Ok(Vec::new());
        };
        let query = sqlx::query_scalar(include_str!("../sql/renew.sql"))
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.appid.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.lease_id)
                    .collect::<Vec<_>>(),
            )
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.leased_at)
                    .collect::<Vec<_>>(),
            )
            .bind(&first.worker)
            .bind(length.as_secs_f64());
        self.run("renew", query.fetch_all(&self.pool)).await
    }

    /// Gives back a lease that was never started. False: it is gone already.
    ///
    /// # Errors
    ///
    /// It then lapses by itself.
    pub async fn release(&self, lease: &LeaseKey) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar(include_str!("../sql/release.sql"))
            .bind(&lease.appid)
            .bind(lease.lease_id)
            .bind(&lease.worker);
        self.run("release", query.fetch_one(&self.pool)).await
    }

    /// Gives up every lease of this worker whose id is not in `known` and that was leased `age` ago or earlier.
    ///
    /// # Errors
    ///
    /// Those leases lapse by themselves.
    pub async fn drop_unknown(
        &self,
        worker: &str,
        known: &[i64],
        age: Duration,
    ) -> Result<i32, StoreError> {
        let query = sqlx::query_scalar(include_str!("../sql/drop_unknown.sql"))
            .bind(worker)
            .bind(known)
            .bind(age.as_secs_f64());
        self.run("drop_unknown", query.fetch_one(&self.pool)).await
    }

    /// Records that the answer which decided a row came for another, too. False: the row is still on its way, repeat this then.
    ///
    /// # Errors
    ///
    /// Repeat it: it is recorded once.
    pub async fn record_dispute(
        &self,
        dispute: &Dispute,
        worker: &str,
    ) -> Result<bool, StoreError> {
        let reason = format!(
            "disputed: its answer ({}) came for notification {}, too, and is one of theirs at most",
            dispute.answer, dispute.other
        );
        let query = sqlx::query_scalar(include_str!("../sql/record_dispute.sql"))
            .bind(dispute.notification_id)
            .bind(reason)
            .bind(worker);
        self.run("record_dispute", query.fetch_one(&self.pool))
            .await
    }

    /// Records outcomes of a lease's rows; `close` says that no more will come.
    ///
    /// # Errors
    ///
    /// The outcomes may or may not have been recorded: settle again, it is idempotent. [`StoreError::is_refusal`]: settle
    /// them carefully.
    pub async fn settle(
        &self,
        lease: &LeaseKey,
        outcomes: &[Outcome],
        close: bool,
        doubt: DoubtPolicy,
    ) -> Result<Settled, StoreError> {
        let statement = include_str!("../sql/settle.sql");
        self.settle_by(statement, lease, outcomes, close, doubt)
            .await
    }

    /// As [`Store::settle`], for outcomes that were refused: a row that the database refuses to move to the history costs only
    /// itself. Dearer.
    ///
    /// # Errors
    ///
    /// As [`Store::settle`].
    pub async fn settle_carefully(
        &self,
        lease: &LeaseKey,
        outcomes: &[Outcome],
        close: bool,
        doubt: DoubtPolicy,
    ) -> Result<Settled, StoreError> {
        let statement = include_str!("../sql/settle_carefully.sql");
        self.settle_by(statement, lease, outcomes, close, doubt)
            .await
    }

    async fn settle_by(
        &self,
        statement: &'static str,
        lease: &LeaseKey,
        outcomes: &[Outcome],
        close: bool,
        doubt: DoubtPolicy,
    ) -> Result<Settled, StoreError> {
        let asked_at = Instant::now();
        let query = sqlx::query_scalar::<_, Option<Vec<i64>>>(statement)
            .bind(&lease.appid)
            .bind(lease.lease_id)
            .bind(&lease.worker)
            .bind(close);
        let columns = SettleColumns::of(outcomes);
        let query = bind_outcomes!(query, columns, doubt);
        let kept_back = self.run("settle", query.fetch_one(&self.pool)).await?;
        telemetry::record_settle(outcomes.len(), asked_at.elapsed());
        Ok(kept_back.map_or(Settled::Fenced, Settled::KeptBack))
    }

    /// As [`Store::settle`], for several leases of one worker in one commit. Answers in the order of `requests`.
    ///
    /// # Errors
    ///
    /// As [`Store::settle`]; a data error may be another lease's: settle each by itself then.
    pub async fn settle_many(
        &self,
        requests: &[SettleRequest],
        doubt: DoubtPolicy,
    ) -> Result<Vec<Settled>, StoreError> {
        let Some(first) = requests.first() else {
            return Ok(Vec::new());
        };
        let asked_at = Instant::now();
        let leases = || requests.iter().map(|request| &request.lease);
        let mut columns = SettleColumns::default();
        let (mut sent_counts, mut counts) = (Vec::new(), Vec::new());
        for request in requests {
            let before = (columns.sent_ids.len(), columns.ids.len());
            for outcome in request.outcomes.iter() {
                columns.push(outcome);
            }
            sent_counts.push(i32::try_from(columns.sent_ids.len() - before.0).unwrap_or(i32::MAX));
            counts.push(i32::try_from(columns.ids.len() - before.1).unwrap_or(i32::MAX));
        }
        let rows = columns.sent_ids.len() + columns.ids.len();
        let query =
            sqlx::query_as::<_, (i64, Option<Vec<i64>>)>(include_str!("../sql/settle_many.sql"))
                .bind(&first.lease.worker)
                .bind(
                    leases()
                        .map(|lease| lease.appid.as_str())
                        .collect::<Vec<_>>(),
                )
                .bind(leases().map(|lease| lease.lease_id).collect::<Vec<_>>())
                .bind(
                    requests
                        .iter()
                        .map(|request| request.close)
                        .collect::<Vec<_>>(),
                )
                .bind(sent_counts)
                .bind(counts);
        let query = bind_outcomes!(query, columns, doubt);
        let answers = self.run("settle_many", query.fetch_all(&self.pool)).await?;
        telemetry::record_settle(rows, asked_at.elapsed());
        let settled =
            |kept_back: Option<Vec<i64>>| kept_back.map_or(Settled::Fenced, Settled::KeptBack);
        Ok(answers
            .into_iter()
            .map(|(_, kept_back)| settled(kept_back))
            .collect())
    }

    /// Turns what dead workers left behind into due rows or doubts. Returns how many rows are in doubt now because of it.
    ///
    /// Leases of `worker` in `known` are left alone: it holds their outcomes and goes on settling them.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn rescue(
        &self,
        doubt: DoubtPolicy,
        worker: &str,
        known: &[i64],
    ) -> Result<i32, StoreError> {
        let query = sqlx::query_scalar(include_str!("../sql/rescue.sql"))
            .bind(doubt.window.as_secs_f64())
            .bind(doubt.age.as_secs_f64())
            .bind(worker)
            .bind(known);
        self.run("rescue", query.fetch_one(&self.pool)).await
    }

    /// Ends doubts by stored events. Returns how many.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn weigh(&self) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar(include_str!("../sql/weigh.sql"));
        self.run("weigh", query.fetch_one(&self.pool)).await
    }

    /// Records a reply that came after its lease was taken over. True: it changed the row.
    ///
    /// # Errors
    ///
    /// Offer it again.
    pub async fn offer_late_reply(
        &self,
        lease: &LeaseKey,
        started_at: DateTime<Utc>,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        let query =
            sqlx::query_scalar::<_, Option<bool>>(include_str!("../sql/offer_late_reply.sql"))
                .bind(&lease.appid)
                .bind(outcome.notification_id)
                .bind(lease.lease_id)
                .bind(started_at)
                .bind(&lease.worker)
                .bind(matches!(outcome.verdict, Verdict::Sent | Verdict::Found))
                .bind(matches!(outcome.verdict, Verdict::Dead { .. }))
                .bind(outcome.errcode)
                .bind(outcome.errmsg.as_deref().map(without_nul))
                .bind(outcome.rid.as_deref().map(without_nul))
                .bind(outcome.msgid);
        let changed = self
            .run("offer_late_reply", query.fetch_one(&self.pool))
            .await?;
        Ok(changed.unwrap_or(false))
    }
}

/// What names a lease to the database.
#[derive(Debug, Clone)]
pub struct LeaseKey {
    /// Part of the name: lease numbers are counted per mini-program.
    pub appid: String,
    /// The lease.
    pub lease_id: i64,
    /// The worker that holds it, name and epoch.
    pub worker: String,
    /// When it was leased.
    pub leased_at: DateTime<Utc>,
}

/// How long doubts last.
#[derive(Debug, Clone, Copy)]
pub struct DoubtPolicy {
    /// How long evidence is awaited before a `retry` row is sent again.
    pub window: Duration,
    /// How long a `hold` row waits for evidence or an operator.
    pub age: Duration,
}

/// Whether two rows of `lease_many` belong to one lane.
fn same_lane(a: &PgRow, b: &PgRow) -> sqlx::Result<bool> {
    Ok(a.try_get::<i16, _>(1)? == b.try_get::<i16, _>(1)?
        && a.try_get::<&str, _>(0)? == b.try_get::<&str, _>(0)?)
}

/// Reads one lane's rows; their columns begin at `first`.
fn read_lease(
    appid: &str,
    rows: &[PgRow],
    first: usize,
    asked_at: Instant,
) -> sqlx::Result<Leased> {
    let Some(row) = rows.last() else {
        return Ok(Leased::Nothing);
    };
    let Some(lease_id) = row.try_get::<Option<i64>, _>(first)? else {
        return Ok(Leased::Cleared);
    };
    Ok(Leased::Batch {
        watermark: Watermark {
            due: row.try_get(first + 12)?,
            id: row.try_get(first + 3)?,
        },
        low_lease_id: row.try_get(first + 1)?,
        lease: Lease {
            appid: appid.to_owned(),
            lease_id,
            leased_at: row.try_get(first + 2)?,
            asked_at,
            started_at: row.try_get(first + 19)?,
            rows: rows
                .iter()
                .map(|row| read_notification(appid, row, first))
                .collect::<sqlx::Result<_>>()?,
        },
    })
}

/// Reads one leased row: a row this version cannot send is an error in its place and costs the batch nothing.
fn read_notification(
    appid: &str,
    row: &PgRow,
    first: usize,
) -> sqlx::Result<Result<Notification, CorruptRow>> {
    let id = row.try_get(first + 3)?;
    let kind: &str = row.try_get(first + 4)?;
    let Some(kind) = Kind::from_column(kind) else {
        let reason = format!("kind {kind} is not known to this version of wxnotify");
        return Ok(Err(CorruptRow { id, reason }));
    };
    Ok(Ok(Notification {
        id,
        appid: appid.to_owned(),
        kind,
        openid: Openid::new(row.try_get::<&str, _>(first + 5)?),
        template_id: row.try_get(first + 6)?,
        page: row.try_get(first + 7)?,
        data: row.try_get(first + 8)?,
        extra: row.try_get(first + 9)?,
        miniprogram_state: row.try_get(first + 10)?,
        lang: row.try_get(first + 11)?,
        attempts: row.try_get(first + 13)?,
        attempts_max: row.try_get(first + 14)?,
        in_doubt: row.try_get(first + 15)?,
        expire_at: row.try_get(first + 16)?,
        waiting_since: row.try_get(first + 17)?,
        probe: row.try_get(first + 18)?,
    }))
}

/// Postgres stores no NUL in text, and one bad errmsg must not poison a settle.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Outcomes as settle's arrays: what was plainly sent apart from the rest, since nearly all is.
#[derive(Default)]
struct SettleColumns {
    sent_ids: Vec<i64>,
    sent_msgids: Vec<Option<i64>>,
    ids: Vec<i64>,
    verdicts: Vec<&'static str>,
    delays_secs: Vec<Option<f64>>,
    waiting_for: Vec<Option<&'static str>>,
    errcodes: Vec<Option<i64>>,
    errmsgs: Vec<Option<String>>,
    rids: Vec<Option<String>>,
    http_statuses: Vec<Option<i16>>,
    reasons: Vec<Option<String>>,
    response_ms: Vec<Option<i32>>,
    credits: Vec<Option<&'static str>>,
}

impl SettleColumns {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut columns = Self::default();
        columns.sent_ids.reserve(outcomes.len());
        columns.sent_msgids.reserve(outcomes.len());
        for outcome in outcomes {
            columns.push(outcome);
        }
        columns
    }

    fn push(&mut self, outcome: &Outcome) {
        let (verdict, after, waiting_for, credit) = match outcome.verdict {
            Verdict::Sent => {
                self.sent_ids.push(outcome.notification_id);
                self.sent_msgids.push(outcome.msgid);
                return;
            }
            Verdict::Dead { credit } => ("dead", None, None, Some(credit.as_str())),
            Verdict::Expired => ("expired", None, None, None),
            Verdict::Retry { after } => ("retry", Some(after), None, None),
            Verdict::Park { waiting_for, after } => {
                ("park", Some(after), Some(waiting_for.as_str()), None)
            }
            Verdict::InDoubt => ("doubt", None, None, None),
            Verdict::Release => ("release", None, None, None),
            Verdict::Found => ("found", None, None, None),
            Verdict::NotFound => ("not_found", None, None, None),
        };
        self.ids.push(outcome.notification_id);
        self.verdicts.push(verdict);
        self.delays_secs
            .push(after.map(|after| after.as_secs_f64()));
        self.waiting_for.push(waiting_for);
        self.errcodes.push(outcome.errcode);
        self.errmsgs
            .push(outcome.errmsg.as_deref().map(without_nul));
        self.rids.push(outcome.rid.as_deref().map(without_nul));
        self.http_statuses.push(outcome.http_status);
        self.reasons
            .push(outcome.reason.as_deref().map(without_nul));
        self.response_ms.push(outcome.response_ms);
        self.credits.push(credit);
    }
}
