//! The pool, as statements see it: a connection that no longer answers is given up, not waited for.
//!
//! sqlx tests each connection on its way back into the pool, without a time limit: on a half-open connection that test
//! takes as long as the kernel resends, a quarter of an hour, and the place in the pool with it. Here the way back has a
//! limit, and a statement that went unanswered throws away the idle connections too, since they lead to the same place.
//!
//! Behind a pooler in transaction mode each statement may meet another server process, and a prepared statement one that
//! knows nothing of it. There a statement is a transaction of its own, which keeps the process until it is done, and leaves
//! nothing behind: no prepared statement, no setting.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{
    AssertSqlSafe, Connection, Describe, Either, Execute, Executor, PgPool, Postgres, SqlSafeStr,
    SqlStr,
};

/// How long a connection may take on its way back: the server ends a forgotten statement within a second.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// What lies between the program and the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Nothing, or a pooler in session mode: a connection is a session.
    Direct,
    /// A pooler that gives each transaction a server process.
    TransactionPooler,
}

/// A pool of connections to the database; clones share it.
#[derive(Clone)]
pub struct Connections {
    pool: PgPool,
    /// Through a pooler in transaction mode: what each statement's transaction begins with.
    begin: Option<SqlStr>,
}

impl Connections {
    /// Statements over a pool whose connections are sessions.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool, begin: None }
    }

    /// Statements over a pool that leads through a pooler in transaction mode; the server ends each after `limit`.
    #[must_use]
    pub fn through_pooler(pool: PgPool, limit: Duration) -> Self {
        let begin = format!(
            "begin isolation level read committed; set local jit = off; set local statement_timeout = {}",
            limit.as_millis()
        );
        Self {
            pool,
            begin: Some(AssertSqlSafe(begin).into_sql_str()),
        }
    }

    /// What lies between.
    #[must_use]
    pub fn route(&self) -> Route {
        if self.begin.is_some() {
            Route::TransactionPooler
        } else {
            Route::Direct
        }
    }

    /// Throws away the connections that lie idle: one like them has just left a statement unanswered.
    pub fn distrust_idle(&self) {
        while let Some(mut connection) = self.pool.try_acquire() {
            connection.close_on_drop();
        }
    }

    /// Runs a statement to its end; our answers are small.
    async fn answers<'q, E>(&self, query: E) -> sqlx::Result<Vec<Either<PgQueryResult, PgRow>>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let mut connection = self.borrow().await?;
        let Some(begin) = &self.begin else {
            return connection.fetch_many(query).try_collect().await;
        };
        // Dropped before its end, it is rolled back on the connection's way back.
        let mut transaction = connection.begin_with(begin.clone()).await?;
        let answers = transaction
            .fetch_many(Unprepared(query))
            .try_collect()
            .await?;
        transaction.commit().await?;
        Ok(answers)
    }

    async fn borrow(&self) -> sqlx::Result<Borrowed> {
        Ok(Borrowed(self.pool.acquire().await?))
    }
}

impl Deref for Connections {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(formatter)
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

/// A connection that goes back into the pool in time or not at all.
struct Borrowed(PoolConnection<Postgres>);

impl Deref for Borrowed {
    type Target = PoolConnection<Postgres>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // What the connection's own drop does, with a limit; without a runtime there is nothing left to wait for.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(BACK_WITHIN, self.0.return_to_pool()));
        }
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
        Box::pin(async move { self.borrow().await?.prepare_with(sql, parameters).await })
    }

    #[doc(hidden)]
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, sqlx::Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        Box::pin(async move { self.borrow().await?.describe(sql).await })
    }
}
