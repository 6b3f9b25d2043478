//! Statements on what WeChat says by callback.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;

use super::statement::statement;
use super::{Store, StoreError};

/// Events looked at in one call of [`Store::apply_events`] or [`Store::apply_answers`].
pub const EVENTS_A_CALL: i32 = 500;

/// What WeChat punished a mini-program for.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Punishment {
    /// Who was punished.
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
        let statement = statement!("events/ingest_event");
        let query = statement.query_scalar().bind(appid).bind(Json(event));
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Records stored sent events as receipts of their rows. Returns how many were looked at: as many as
    /// [`EVENTS_A_CALL`] means that there may be more.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn apply_events(&self) -> Result<i32, StoreError> {
        let statement = statement!("events/apply_events");
        let query = statement.query_scalar().bind(EVENTS_A_CALL);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Punishments that no log has told of yet; each is given once, whoever asks.
    ///
    /// # Errors
    ///
    /// Ask again later; if the answer was lost, what it told stays in the view `wechat_punishments`.
    pub async fn new_punishments(&self) -> Result<Vec<Punishment>, StoreError> {
        let statement = statement!("events/new_punishments");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }

    /// What WeChat punished in the last seven days, the latest first.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn punishments(&self, appid: Option<&str>) -> Result<Vec<Punishment>, StoreError> {
        let statement = statement!("events/punishments");
        let query = statement.query_as().bind(appid);
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }

    /// Forgets old events, at most 20,000. Returns how many.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn drop_old_events(&self, keep_months: i32) -> Result<u64, StoreError> {
        let statement = statement!("events/drop_old_events");
        let query = statement.query().bind(keep_months);
        let done = self.run(statement.name, query.execute(&self.pool)).await?;
        Ok(done.rows_affected())
    }
}
