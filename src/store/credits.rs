//! Statements on what users accepted and refused, and the credits that follow.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;

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

/// One user's credits of one template, as in the view `notification_credits`.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Credits {
    /// The template.
    pub template_id: String,
    /// What WeChat most likely still holds.
    pub balance: i64,
    /// Accepts we know of.
    pub accepted: i64,
    /// Accepts that no row claims.
    pub unclaimed: i64,
    /// Recorded and not armed.
    pub held: i64,
    /// On their way, or paused.
    pub pending: i64,
    /// Perhaps spent.
    pub in_doubt: i64,
    /// Spent.
    pub sent: i64,
    /// Perhaps spent; never found out.
    pub unresolved: i64,
    /// WeChat said that there was none.
    pub dead_gone: i64,
    /// Refused for a reason that spends none.
    pub dead_kept: i64,
    /// Dead-lettered, and unknown what became of it.
    pub dead_unknown: i64,
    /// Expired, cancelled or duplicate.
    pub unused: i64,
    /// Messages of other systems.
    pub sent_elsewhere: i64,
    /// Since when the user refuses the template.
    pub refused_at: Option<DateTime<Utc>>,
    /// The last accept that WeChat pushed.
    pub last_accepted_at: Option<DateTime<Utc>>,
}

/// Where the books of a user do not balance.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct CreditFault {
    /// The template.
    pub template_id: String,
    /// What is wrong.
    pub fault: String,
    /// The notification it is about.
    pub notification_id: Option<i64>,
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

    /// One user's credits, a row for each template.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn credits(&self, appid: &str, openid: &str) -> Result<Vec<Credits>, StoreError> {
        let statement = statement!("credits/credits");
        let query = statement.query_as().bind(appid).bind(openid);
        self.read_rows(statement.name, query).await
    }

    /// Where one user's books do not balance.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn credit_faults(
        &self,
        appid: &str,
        openid: &str,
    ) -> Result<Vec<CreditFault>, StoreError> {
        let statement = statement!("credits/credit_faults");
        let query = statement.query_as().bind(appid).bind(openid);
        self.read_rows(statement.name, query).await
    }
}
