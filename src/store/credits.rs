//! Statements on what users accepted and refused, and the credits that follow.

use std::time::Duration;

use super::statement::statement;
use super::{EVENTS_A_CALL, Store, StoreError};

/// Which row is the same tap as an accept, and what becomes of an accept that has none.
#[derive(Debug, Clone, Copy)]
pub struct ClaimPolicy {
    /// How much later than the accept the row may have been inserted.
    pub window: Duration,
    /// Whether an accept without a row becomes a held row; otherwise it is only counted.
    pub holds_unclaimed: bool,
}

impl Store {
    /// Applies what users accepted and refused: parks and releases rows, pairs accepts with rows. Returns how many events
    /// were looked at: as many as [`EVENTS_A_CALL`] means that there may be more.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn apply_answers(&self, policy: ClaimPolicy) -> Result<i32, StoreError> {
        let statement = statement!("credits/apply_answers");
        let query = statement
            .query_scalar()
            .bind(policy.holds_unclaimed)
            .bind(policy.window.as_secs_f64())
            .bind(EVENTS_A_CALL);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }
}
