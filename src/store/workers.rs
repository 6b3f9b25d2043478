//! Statements on workers: their registration, and the bell that wakes them.

use super::statement::statement;
use super::{Store, StoreError};

impl Store {
    /// Registers a start of a worker and returns its epoch.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn enlist(&self, name: &str, appids: &[String]) -> Result<i64, StoreError> {
        let statement = statement!("workers/enlist");
        let query = statement
            .query_scalar()
            .bind(name)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(appids);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Says that the worker lives. Returns how many workers do.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn heartbeat(
        &self,
        name: &str,
        epoch: i64,
        in_flight: i32,
        appids: &[String],
    ) -> Result<i64, StoreError> {
        let statement = statement!("workers/heartbeat");
        let query = statement
            .query_scalar()
            .bind(name)
            .bind(epoch)
            .bind(in_flight)
            .bind(appids);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Records an orderly stop.
    ///
    /// # Errors
    ///
    /// The worker then looks as if it had died.
    pub async fn retire(&self, name: &str, epoch: i64) -> Result<(), StoreError> {
        let statement = statement!("workers/retire");
        let query = statement.query().bind(name).bind(epoch);
        self.run(statement.name, query.execute(&self.pool))
            .await
            .map(drop)
    }

    /// Asks to be woken by the next INSERT of the next seconds, and returns the fence: until the oldest running transaction is at or past it,
    /// keep polling.
    ///
    /// # Errors
    ///
    /// Keep polling.
    pub async fn arm_bell(&self) -> Result<i64, StoreError> {
        let arm_bell = statement!("workers/arm_bell");
        let arm = arm_bell.query();
        self.run(arm_bell.name, arm.execute(&self.leasing)).await?;
        let bell_fence = statement!("workers/bell_fence");
        let fence = bell_fence.query_scalar();
        self.run(bell_fence.name, fence.fetch_one(&self.leasing))
            .await
    }

    /// Whether the bell is armed still, and the oldest running transaction. What is about to run out is prolonged: a sleeper
    /// asks every few seconds, or the bell falls silent.
    ///
    /// # Errors
    ///
    /// Keep polling.
    pub async fn bell_state(&self) -> Result<(bool, i64), StoreError> {
        let statement = statement!("workers/bell_state");
        let query = statement.query_as();
        let state = self.run(statement.name, query.fetch_one(&self.leasing));
        let (_, _, is_armed, oldest): (Option<i64>, String, bool, i64) = state.await?;
        Ok((is_armed, oldest))
    }

    /// Says that this worker is awake.
    ///
    /// # Errors
    ///
    /// INSERTs go on ringing, which costs them a little.
    pub async fn disarm_bell(&self) -> Result<(), StoreError> {
        let statement = statement!("workers/disarm_bell");
        let query = statement.query();
        self.run(statement.name, query.execute(&self.leasing))
            .await
            .map(drop)
    }
}
