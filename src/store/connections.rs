//! The pool, as statements see it: a connection that no longer answers is given up, not waited for.
//!
//! sqlx tests each connection on its way back into the pool, without a time limit: on a half-open connection that test
//! takes as long as the kernel resends, a quarter of an hour, and the place in the pool with it. Here the way back has a
//! limit, and a statement that went unanswered throws away the idle connections too, since they lead to the same place.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, PgPool, Postgres, SqlStr};

/// How long a connection may take on its way back: the server ends a forgotten statement within a second.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// A pool of connections to the database; clones share it.
#[derive(Clone)]
pub struct Connections(PgPool);

impl Connections {
    /// Statements over a pool.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self(pool)
    }

    /// Throws away the connections that lie idle: one like them has just left a statement unanswered.
    pub fn distrust_idle(&self) {
        while let Some(mut connection) = self.0.try_acquire() {
            connection.close_on_drop();
        }
    }

    async fn borrow(&self) -> sqlx::Result<Borrowed> {
        Ok(Borrowed(self.0.acquire().await?))
    }
}

impl Deref for Connections {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.0
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
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
        // Collected here, since a stream cannot borrow from the connection it owns; our answers are small.
        let answers = async move {
            let mut connection = self.borrow().await?;
            connection.fetch_many(query).try_collect::<Vec<_>>().await
        };
        answers
            .map_ok(|answers| futures::stream::iter(answers).map(sqlx::Result::Ok))
            .try_flatten_stream()
            .boxed()
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Vec<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move { self.borrow().await?.fetch_all(query).await })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move { self.borrow().await?.fetch_optional(query).await })
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
