//! Statements on what WeChat says by callback.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;

use super::{Store, StoreError};

/// Events looked at in one call of [`Store::apply_events`] or [`Store::apply_answers`].
pub const EVENTS_A_CALL: i32 = 500;

/// Which row is the same tap as an accept, and what becomes of an accept that has none.
#[derive(Debug, Clone, Copy)]
pub struct ClaimPolicy {
    /// How much later than the accept the row may have been inserted.
    pub window: Duration,
    /// Whether an accept without a row becomes a held row; otherwise it is only counted.
    pub holds_unclaimed: bool,
}

/// What WeChat punished a mini-program for.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Punishment {
    /// The mini-program.
    pub appid: String,
    /// When.
    pub punished_at: DateTime<Utc>,
    /// What WeChat did: a warning, functions banned, the account banned.
    pub punishment: String,
    /// WeChat's reason.
    pub reason: Option<String>,
    /// The functions that are banned.
    pub banned_functions: Option<String>,
    /// For how many days.
    pub banned_days: Option<String>,
}

impl Punishment {
    /// What happened and why, in a line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = format!("WeChat punished {}: {}", self.appid, self.punishment);
        if let Some(functions) = &self.banned_functions {
            sentence += &format!(" ({functions})");
        }
        if let Some(days) = &self.banned_days {
            sentence += &format!(" for {days} days");
        }
        if let Some(reason) = &self.reason {
            sentence += &format!(": {reason}");
        }
        sentence
    }
}

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

    /// Applies what users accepted and refused: parks and releases rows, pairs accepts with rows. Returns how many events
    /// were looked at: as many as [`EVENTS_A_CALL`] means that there may be more.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn apply_answers(&self, policy: ClaimPolicy) -> Result<i32, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/apply_answers.sql"))
            .bind(policy.holds_unclaimed)
            .bind(policy.window.as_secs_f64())
            .bind(EVENTS_A_CALL);
        self.run("apply_answers", query.fetch_one(&self.pool)).await
    }

    /// Punishments that no log has told of yet; each is given once, whoever asks.
    ///
    /// # Errors
    ///
    /// Ask again later; if the answer was lost, what it told stays in the view `wechat_punishments`.
    pub async fn new_punishments(&self) -> Result<Vec<Punishment>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/new_punishments.sql"));
        self.run("new_punishments", query.fetch_all(&self.pool))
            .await
    }

    /// What WeChat punished in the last seven days, the latest first.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn punishments(&self, appid: Option<&str>) -> Result<Vec<Punishment>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/punishments.sql")).bind(appid);
        self.run("punishments", query.fetch_all(&self.pool)).await
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
