//! Every SQL statement of the program: one function here or in a part below, one file in `sql/`.
//!
//! A notification is *due* when its time has come and nothing else holds it back, *leased* while a live row of
//! `notification_leases` names it, *in doubt* when a send of it may have reached WeChat, and *settled* when an outcome
//! was recorded. The kernel's rules live in the database's own functions (`sql/schema/`), so that every statement here is
//! one call; this module turns rows into notifications and outcomes into arrays. No other module names a table.
//!
//! Start at [`Store::lease`], then [`Store::start`], [`Store::settle`] and [`Store::rescue`].

mod apps;
pub mod batches;
pub mod checks;
mod connecting;
mod connections;
pub mod console;
pub mod credits;
pub mod doctor;
mod errcodes;
mod events;
mod kernel;
mod kinds;
pub mod privacy;
pub mod quiet;
pub mod quotas;
pub mod reminders;
pub mod schedules;
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
use std::time::Duration;

use futures::FutureExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::{failpoint, telemetry};

pub use crate::address::{Address, Route};
pub(crate) use crate::legible::describe;
pub use apps::SendingApp;
pub use connections::{Borrowed, Connections, Sessions};
pub use credits::ClaimPolicy;
pub use events::{EVENTS_A_CALL, Punishment};
pub use kernel::{
    CorruptRow, DoubtPolicy, Front, LaneLeased, LaneRequest, Lease, LeaseKey, LeaseRequest, Leased,
    SettleRequest, Settled, Watermark,
};
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
}
