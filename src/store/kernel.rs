//! Statements around leases: the fronts of lanes, and what is tidied away before a lease.

use chrono::{DateTime, Utc};

use super::{Connections, Store, StoreError};

/// The first row of one lane.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Front {
    /// With `lane`, what names the lane.
    pub appid: String,
    /// 0, 1 or 2.
    pub lane: i16,
    /// Seconds until it is due: negative when overdue, `None` when it is never due by itself.
    pub due_in_secs: Option<f64>,
    /// The database's clock.
    pub at: DateTime<Utc>,
}

impl Store {
    /// Every lane and its front, for the leaser; one index probe a lane.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn fronts(&self) -> Result<Vec<Front>, StoreError> {
        self.fronts_over(&self.leasing).await
    }

    /// The same for upkeep: the leaser's connection is not to wait for it.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn fronts_for_upkeep(&self) -> Result<Vec<Front>, StoreError> {
        self.fronts_over(&self.pool).await
    }

    async fn fronts_over(&self, connections: &Connections) -> Result<Vec<Front>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/fronts.sql"));
        self.run("fronts", query.fetch_all(connections)).await
    }

    /// Ends expired and exhausted rows at the front of a lane and parks what cannot be leased now. Returns how many.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn tidy(&self, appid: &str, lane: i16, rows: i32) -> Result<i32, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/tidy.sql"))
            .bind(appid)
            .bind(lane)
            .bind(rows);
        self.run("tidy", query.fetch_one(&self.pool)).await
    }
}
