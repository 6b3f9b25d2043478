//! The connections, as statements see them: a bounded number, each given up when it no longer answers.
//!
//! The pool is ours because a connection is more here than what sqlx's pool makes: it leads to whichever host of several can be
//! written to at that moment ([`Address`]), and when the server has no place for another, what is open already goes round, the
//! refusal is named, and the leaser's pool gets a place from the others'.
//!
//! A connection whose statement did not end well is asked whether it still answers before it is lent again, within a limit: on
//! a half-open connection that would take as long as the kernel resends. A statement that went unanswered throws away the idle
//! connections too, since they lead to the same place; so does one that met a server which may no longer be written to.
//!
//! Behind a pooler in transaction mode each statement may meet another server process, and a prepared statement one that
//! knows nothing of it. There a statement is a transaction of its own, which keeps the process until it is done, and leaves
//! nothing behind: no prepared statement, no setting.
//!
//! Start at [`Connections::borrow`].

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{
    AssertSqlSafe, Connection, Describe, Either, Execute, Executor, PgConnection, Postgres,
    SqlSafeStr, SqlStr,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::connecting;
use crate::address::{Address, Route};

/// How long a connection may take to answer after a statement that did not end well: the server ends a forgotten one within a
/// second.
const BACK_WITHIN: Duration = Duration::from_secs(2);
/// A connection is made anew after this long: server processes grow, and hosts' names change their meaning.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// A connection that nobody needed for so long is closed.
const IDLE: Duration = Duration::from_secs(10 * 60);
/// The first and the longest wait between two tries to connect.
const AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// After the server had no place for another connection, those that are open are waited for so long before it is asked again.
const FULL_FOR: Duration = Duration::from_secs(5);
/// How long housekeeping lets others pass.
const GIVES_WAY: Duration = Duration::from_secs(1);
/// How long connecting may take once the program is to stop.
const HURRIED: Duration = Duration::from_secs(1);
/// The code of a statement that met a server which may not be written to.
const READ_ONLY: &str = "25006";

/// How sessions are prepared, and how long a connection is waited for.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// What lies between.
    pub route: Route,
    /// The server ends a statement after so long.
    pub limit: Duration,
    /// How long borrowing may take, connecting included.
    pub within: Duration,
    /// Once cancelled, a server that is away is not waited for any more.
    pub stop: CancellationToken,
}

/// A pool of connections to the database; clones share it.
#[derive(Clone)]
pub struct Connections {
    shared: Arc<Shared>,
    /// Lets those pass that do not.
    gives_way: bool,
}

struct Shared {
    address: Address,
    sessions: Sessions,
    /// Through a pooler in transaction mode: what each statement's transaction begins with.
    begin: Option<SqlStr>,
    connections_max: u32,
    /// As many as may be lent at once.
    seats: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Rung when a connection comes back.
    returned: Notify,
    /// Connections that are open, idle or lent.
    open: AtomicUsize,
    /// Connections made so far: a new one may lead to another server.
    made: AtomicU64,
    /// Borrowers that wait and do not give way.
    waiting: AtomicUsize,
    /// Until when the server is taken to have no place for more.
    full_until: Mutex<Option<Instant>>,
    /// Whether the next connection that comes back is another pool's place.
    owes_one: AtomicBool,
    /// The pool that gives up a connection when the server has no place for one of ours.
    lender: Option<Connections>,
}

struct Idle {
    connection: PgConnection,
    made_at: Instant,
    since: Instant,
}

impl Connections {
    /// At most `connections_max` connections, made when they are needed.
    #[must_use]
    pub fn new(address: Address, connections_max: u32, sessions: Sessions) -> Self {
        Self::before(None, address, connections_max, sessions)
    }

    /// As [`Self::new`], and when the server has no place left, `lender` gives up one of its own.
    #[must_use]
    pub fn before(
        lender: Option<Self>,
        address: Address,
        connections_max: u32,
        sessions: Sessions,
    ) -> Self {
        let begin = match sessions.route {
            Route::Direct => None,
            Route::TransactionPooler => Some(begin_with(sessions.limit)),
        };
        let shared = Shared {
            address,
            sessions,
            begin,
            connections_max,
            seats: Arc::new(Semaphore::new(connections_max as usize)),
            idle: Mutex::default(),
            returned: Notify::new(),
            open: AtomicUsize::new(0),
            made: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            full_until: Mutex::default(),
            owes_one: AtomicBool::new(false),
            lender,
        };
        Self {
            shared: Arc::new(shared),
            gives_way: false,
        }
    }

    /// The same connections, for what can wait: it lets others pass for a while.
    #[must_use]
    pub fn giving_way(&self) -> Self {
        Self {
            gives_way: true,
            ..self.clone()
        }
    }

    /// What lies between.
    #[must_use]
    pub fn route(&self) -> Route {
        self.shared.sessions.route
    }

    /// Where they lead.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// How many were made so far.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.shared.made.load(Ordering::Relaxed)
    }

    /// Throws away the connections that lie idle: one like them has just left a statement unanswered.
    pub fn distrust_idle(&self) {
        self.shared.throw_away(std::mem::take);
    }

    /// Closes the connections that lie idle; those that are lent are closed by their borrowers' end.
    pub async fn close(&self) {
        let idle = self.shared.throw_away(std::mem::take);
        for idle in idle {
            let _ = tokio::time::timeout(BACK_WITHIN, idle.connection.close()).await;
        }
    }

    /// Makes room for another pool's connection, at once or when the next comes back; the last one is kept.
    fn give_up_one(&self) {
        let shared = &self.shared;
        *lock(&shared.full_until) = Some(Instant::now() + FULL_FOR);
        if shared.open.load(Ordering::Relaxed) < 2 {
            return;
        }
        let idle = shared.throw_away(|idle| idle.pop().into_iter().collect());
        shared.owes_one.store(idle.is_empty(), Ordering::Relaxed);
        for idle in idle {
            close(idle.connection);
        }
    }

    /// Lends a connection: an idle one, or a new one while there may be more.
    ///
    /// # Errors
    ///
    /// None came free and none could be made in time; the error is what the server last said.
    pub async fn borrow(&self) -> sqlx::Result<Borrowed> {
        let shared = &self.shared;
        if self.gives_way {
            shared.let_others_pass().await;
        }
        let mut said = None;
        let lent = {
            let _waiting = (!self.gives_way).then(|| Waiting::among(&shared.waiting));
            let lent = shared.lend(&mut said);
            tokio::time::timeout(shared.sessions.within, lent).await
        };
        match lent {
            Ok(lent) => lent,
            Err(_) => Err(said.unwrap_or_else(|| shared.none_came_free())),
        }
    }

    /// Runs a statement to its end; our answers are small.
    async fn answers<'q, E>(&self, query: E) -> sqlx::Result<Vec<Either<PgQueryResult, PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let mut connection = self.borrow().await?;
        let answers = match &self.shared.begin {
            None => connection.fetch_many(query).try_collect().await,
            Some(begin) => in_transaction(&mut connection, begin.clone(), query).await,
        };
        connection.ended(&answers);
        answers
    }
}

/// Runs a statement as a transaction of its own. Dropped before its end, it is rolled back on the connection's way back.
async fn in_transaction<'q, E>(
    connection: &mut PgConnection,
    begin: SqlStr,
    query: E,
) -> sqlx::Result<Vec<Either<PgQueryResult, PgRow>>>
where
    E: 'q + Execute<'q, Postgres>,
{
    let mut transaction = connection.begin_with(begin).await?;
    let answers = transaction
        .fetch_many(Unprepared(query))
        .try_collect()
        .await?;
    transaction.commit().await?;
    Ok(answers)
}

/// What a transaction through a pooler begins with: there are no sessions to prepare.
fn begin_with(limit: Duration) -> SqlStr {
    let begin = format!(
        "begin isolation level read committed; set local jit = off; set local statement_timeout = {}; \
         select set_config('synchronous_commit', {}, true)",
        limit.as_millis(),
        super::COMMIT_DURABLY
    );
    AssertSqlSafe(begin).into_sql_str()
}

/// Says goodbye to the server, beside what goes on.
fn close(connection: PgConnection) {
    tokio::spawn(tokio::time::timeout(BACK_WITHIN, connection.close()));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Takes idle connections out of the pool.
    fn throw_away(&self, which: impl FnOnce(&mut Vec<Idle>) -> Vec<Idle>) -> Vec<Idle> {
        let taken = which(&mut lock(&self.idle));
        self.open.fetch_sub(taken.len(), Ordering::Relaxed);
        taken
    }

    /// The idle connection that came back last. Those that are too old, or that nobody needs, are closed.
    fn take_idle(&self) -> Option<Idle> {
        let now = Instant::now();
        let is_old = |idle: &mut Idle| now - idle.made_at > LIFETIME || now - idle.since > IDLE;
        let old = self.throw_away(|idle| idle.extract_if(.., is_old).collect());
        for idle in old {
            close(idle.connection);
        }
        lock(&self.idle).pop()
    }

    /// Lends as soon as there is something to lend; `said` holds why there was nothing so far.
    async fn lend(self: &Arc<Self>, said: &mut Option<sqlx::Error>) -> sqlx::Result<Borrowed> {
        let seats = self.seats.clone();
        let seat = seats.acquire_owned().await.expect("it is never closed");
        let mut seat = Some(seat);
        let mut wait = AGAIN.0;
        loop {
            if let Some(Idle {
                connection,
                made_at,
                ..
            }) = self.take_idle()
            {
                return Ok(Borrowed::new(self, connection, made_at, seat.take()));
            }
            if !self.waits_for_others() {
                let is_hurried = self.sessions.stop.is_cancelled();
                match self.connect_until_stopped(is_hurried).await {
                    Ok(None) => continue,
                    Ok(Some(connection)) => {
                        self.open.fetch_add(1, Ordering::Relaxed);
                        self.made.fetch_add(1, Ordering::Relaxed);
                        return Ok(Borrowed::new(self, connection, Instant::now(), seat.take()));
                    }
                    Err(error) if passes(&error) && !is_hurried => *said = Some(error),
                    Err(error) => return Err(error),
                }
            }
            tokio::select! {
                () = self.returned.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(AGAIN.1);
        }
    }

    /// Whether the server had no place lately and some of ours, which are open, will come back.
    fn waits_for_others(&self) -> bool {
        let is_full = lock(&self.full_until).is_some_and(|until| Instant::now() < until);
        is_full && self.open.load(Ordering::Relaxed) > 0
    }

    /// `None`: the program is to stop meanwhile, so it is tried again in haste.
    async fn connect_until_stopped(&self, is_hurried: bool) -> sqlx::Result<Option<PgConnection>> {
        if is_hurried {
            return self.connect(HURRIED).await.map(Some);
        }
        tokio::select! {
            connected = self.connect(self.sessions.within) => connected.map(Some),
            () = self.sessions.stop.cancelled() => Ok(None),
        }
    }

    async fn connect(&self, within: Duration) -> sqlx::Result<PgConnection> {
        let connected = async {
            let mut connection = self.address.connect(within).await?;
            // The sessions behind a pooler are not ours to change.
            if self.sessions.route == Route::Direct {
                super::prepare_session(&mut connection, self.sessions.limit).await?;
            }
            Ok(connection)
        };
        let connected = connected.await;
        if connected.as_ref().is_err_and(connecting::is_full) {
            *lock(&self.full_until) = Some(Instant::now() + FULL_FOR);
            if let Some(lender) = &self.lender {
                lender.give_up_one();
            }
        }
        connected
    }

    async fn let_others_pass(&self) {
        let until = Instant::now() + GIVES_WAY;
        while self.waiting.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            let _ = tokio::time::timeout(AGAIN.0, std::future::pending::<()>()).await;
        }
    }

    fn none_came_free(&self) -> sqlx::Error {
        let words = format!(
            "none of the {} connections for such statements came free within {} s (WXNOTIFY_POOL_CONNECTIONS bounds them)",
            self.connections_max,
            self.sessions.within.as_secs_f64()
        );
        sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, words))
    }
}

/// Whether a failure to connect may be gone in a moment: nobody listens yet, the server starts, or it has no place.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(refused) => {
            matches!(refused.code().as_deref(), Some("53300" | "57P03"))
        }
        _ => false,
    }
}

/// Counts a borrower while it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connections")
            .field("address", &self.shared.address)
            .field("connections_max", &self.shared.connections_max)
            .finish_non_exhaustive()
    }
}

/// A statement without a name on the server, gone with the next.
struct Unprepared<E>(E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Unprepared<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}

/// What becomes of a connection when its borrower is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its last statement ended well: the next may have it.
    Sound,
    /// Something was cut off or refused: it is asked whether it answers.
    Unclear,
    /// It leads where nothing can be written any more.
    Doomed,
}

/// A connection that goes back into the pool in time or not at all.
pub struct Borrowed {
    connection: Option<PgConnection>,
    made_at: Instant,
    fate: Fate,
    shared: Arc<Shared>,
    seat: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Borrowed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Borrowed")
            .field("fate", &self.fate)
            .finish_non_exhaustive()
    }
}

impl Borrowed {
    fn new(
        shared: &Arc<Shared>,
        connection: PgConnection,
        made_at: Instant,
        seat: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            connection: Some(connection),
            made_at,
            fate: Fate::Unclear,
            shared: shared.clone(),
            seat,
        }
    }

    /// Says how the last statement ended; unsaid, the connection is asked whether it still answers.
    pub fn ended<T>(&mut self, result: &sqlx::Result<T>) {
        self.fate = match result {
            Ok(_) => Fate::Sound,
            Err(sqlx::Error::Database(refused)) if refused.code().as_deref() == Some(READ_ONLY) => {
                Fate::Doomed
            }
            Err(_) => Fate::Unclear,
        };
    }
}

impl Deref for Borrowed {
    type Target = PgConnection;

    fn deref(&self) -> &Self::Target {
        self.connection
            .as_ref()
            .expect("it is there until the drop")
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.connection
            .as_mut()
            .expect("it is there until the drop")
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let back = Back {
            connection: self.connection.take(),
            made_at: self.made_at,
            shared: self.shared.clone(),
            seat: self.seat.take(),
        };
        match (self.fate, tokio::runtime::Handle::try_current()) {
            (Fate::Sound, _) => back.give(),
            (Fate::Unclear, Ok(runtime)) => {
                runtime.spawn(back.give_if_it_answers());
            }
            (Fate::Doomed, _) => {
                // The idle ones lead there, too.
                drop(back.shared.throw_away(std::mem::take));
            }
            // Without a runtime nothing is left that could use it.
            (Fate::Unclear, Err(_)) => {}
        }
    }
}

/// A connection on its way back; dropped, it is closed and its place is free.
struct Back {
    connection: Option<PgConnection>,
    made_at: Instant,
    shared: Arc<Shared>,
    seat: Option<OwnedSemaphorePermit>,
}

impl Back {
    fn give(mut self) {
        let shared = &self.shared;
        let is_owed = shared.owes_one.swap(false, Ordering::Relaxed);
        if is_owed && shared.open.load(Ordering::Relaxed) > 1 {
            // Its drop closes it and counts it out.
            return;
        }
        let Some(connection) = self.connection.take() else {
            return;
        };
        let idle = Idle {
            connection,
            made_at: self.made_at,
            since: Instant::now(),
        };
        lock(&self.shared.idle).push(idle);
    }

    async fn give_if_it_answers(mut self) {
        let Some(connection) = self.connection.as_mut() else {
            return;
        };
        let answers = tokio::time::timeout(BACK_WITHIN, connection.ping()).await;
        if matches!(answers, Ok(Ok(()))) {
            self.give();
        }
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        if self.connection.take().is_some() {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
        }
        // First the place, then the bell.
        self.seat.take();
        self.shared.returned.notify_one();
    }
}

impl<'c> Executor<'c> for &'c Connections {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, sqlx::Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        // Collected here, since a stream cannot borrow from the connection it owns.
        self.answers(query)
            .map_ok(|answers| futures::stream::iter(answers).map(sqlx::Result::Ok))
            .try_flatten_stream()
            .boxed()
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Vec<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let answers = self.answers(query).await?;
            Ok(answers.into_iter().filter_map(Either::right).collect())
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let answers = self.answers(query).await?;
            Ok(answers.into_iter().find_map(Either::right))
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, sqlx::Result<PgStatement>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut connection = self.borrow().await?;
            connection.prepare_with(sql, parameters).await
        })
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut connection = self.borrow().await?;
            connection.describe(sql).await
        })
    }
}
