//! Statements on what WeChat says by callback.

use serde_json::Value;
use sqlx::types::Json;

use super::{Store, StoreError};

/// Events looked at in one call of [`Store::apply_events`].
pub const EVENTS_A_CALL: i32 = 500;

impl Store {
    /// Stores an event, one row for each entry of its `List`, unless it is known. Returns how many entries were new;
    /// `None`: the event is none that is kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::is_data_error`]: it lacks what every such event has. Otherwise store it again: a repeat changes nothing.
    pub async fn ingest_event(
        &self,
        appid: &str,
        event: &Value,
    ) -> Result<Option<i32>, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/ingest_event.sql"))
            .bind(appid)
            .bind(Json(event));
        self.run("ingest_event", query.fetch_one(&self.pool)).await
    }

    /// Records stored sent events as receipts of their rows. Returns how many were looked at: as many as
    /// [`EVENTS_A_CALL`] means that there may be more.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn apply_events(&self) -> Result<i32, StoreError> {
        let query =
            sqlx::query_scalar(include_str!("../../sql/apply_events.sql")).bind(EVENTS_A_CALL);
        self.run("apply_events", query.fetch_one(&self.pool)).await
    }

    /// Forgets old events, at most 20,000. Returns how many.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn drop_old_events(&self, keep_months: i32) -> Result<u64, StoreError> {
        let query = sqlx::query(include_str!("../../sql/drop_old_events.sql")).bind(keep_months);
        let done = self
            .run("drop_old_events", query.execute(&self.pool))
            .await?;
        Ok(done.rows_affected())
    }
}
