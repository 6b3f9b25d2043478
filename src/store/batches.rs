//! Statements on batches: a verb over many rows, previewed, then done at a pace.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::FromRow;

use super::statement::statement;
use super::verbs::Audit;
use super::{Store, StoreError};

/// The most rows of a batch.
pub const BATCH_ROWS_MAX: i32 = 100_000;

/// A batch and how far it is; `rows = left_out + waiting + changed + unchanged`.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Batch {
    /// Order.
    pub id: i64,
    /// `redrive`, `cancel` or `undo`.
    pub verb: String,
    /// `preview`, `running`, `stopped` or `done`.
    pub state: String,
    /// Who previewed and started it.
    pub actor: String,
    /// Which rows were asked for.
    pub filter: Value,
    /// Whether more rows matched than a batch takes.
    pub more: bool,
    /// Why.
    pub note: Option<String>,
    /// At most so many rows a minute; `None`: as fast as it goes.
    pub pace_per_minute: Option<i32>,
    /// When its rows were chosen.
    pub previewed_at: DateTime<Utc>,
    /// When it was started.
    pub started_at: Option<DateTime<Utc>>,
    /// When its last part was done.
    pub stepped_at: Option<DateTime<Utc>>,
    /// When it was done or stopped.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who stopped it.
    pub ended_by: Option<String>,
    /// Rows that matched.
    pub rows: i64,
    /// Of them, left out at the preview.
    pub left_out: i64,
    /// Not done yet.
    pub waiting: i64,
    /// Done.
    pub changed: i64,
    /// Refused by the verb, since they moved meanwhile.
    pub unchanged: i64,
}

/// Rows of a batch that came to the same.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct BatchCause {
    /// What they had come to at the preview.
    pub cause: String,
    /// What the verb said; `None`: not done yet.
    pub result: Option<String>,
    /// How many.
    pub rows: i64,
    /// The lowest id.
    pub first_id: i64,
    /// The highest id.
    pub last_id: i64,
}

/// How many rows have a status.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct StatusCount {
    /// As in the view `notifications`.
    pub status: String,
    /// How many.
    pub rows: i64,
}

/// A batch to go on with.
#[derive(Debug, Clone, FromRow)]
pub struct RunningBatch {
    /// The batch.
    pub id: i64,
    /// Who started it.
    pub actor: String,
}

impl RunningBatch {
    /// The person in the console who started it; `None`: somebody else did.
    #[must_use]
    pub fn person(&self) -> Option<&str> {
        self.actor
            .split_once(" (console, ")
            .map(|(person, _)| person)
    }
}

/// Of all functions: the database did not answer, or this role may not; a verb that is refused says why.
impl Store {
    /// Writes down which rows a verb would change, `rows_max` at most; the batch's id.
    ///
    /// # Errors
    ///
    /// A condition is unknown, or there is none.
    pub async fn preview_batch(
        &self,
        verb: &str,
        filter: &Value,
        rows_max: i32,
        audit: &Audit,
    ) -> Result<i64, StoreError> {
        let statement = statement!("batches/preview_batch");
        let query = statement.query_as().bind(verb).bind(filter).bind(rows_max);
        self.change_one(statement.name, audit, query).await
    }

    /// Starts a previewed batch. `running`, or why not.
    ///
    /// # Errors
    ///
    /// The database did not answer: look at the batch.
    pub async fn start_batch(
        &self,
        batch: i64,
        note: &str,
        pace_per_minute: Option<i32>,
        audit: &Audit,
    ) -> Result<String, StoreError> {
        let statement = statement!("batches/start_batch");
        let query = statement
            .query_as()
            .bind(batch)
            .bind(note)
            .bind(pace_per_minute);
        self.change_one(statement.name, audit, query).await
    }

    /// Does the next rows of a running batch. How many.
    ///
    /// # Errors
    ///
    /// Nothing of this part was done.
    pub async fn step_batch(
        &self,
        batch: i64,
        rows: i32,
        audit: &Audit,
    ) -> Result<i32, StoreError> {
        let statement = statement!("batches/step_batch");
        let query = statement.query_as().bind(batch).bind(rows);
        self.change_one(statement.name, audit, query).await
    }

    /// Stops a running batch. `stopped`, or what it was already.
    ///
    /// # Errors
    ///
    /// The database did not answer: look at the batch.
    pub async fn stop_batch(&self, batch: i64, audit: &Audit) -> Result<String, StoreError> {
        let statement = statement!("batches/stop_batch");
        let query = statement.query_as().bind(batch).bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// One batch.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn read_batch(&self, batch: i64) -> Result<Option<Batch>, StoreError> {
        let statement = statement!("batches/read_batch");
        let query = statement.query_as().bind(batch);
        Ok(self.read_rows(statement.name, query).await?.pop())
    }

    /// The latest batches.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn list_batches(&self, rows_max: i64) -> Result<Vec<Batch>, StoreError> {
        let statement = statement!("batches/list_batches");
        let query = statement.query_as().bind(rows_max);
        self.read_rows(statement.name, query).await
    }

    /// The rows of a batch by cause and result.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn batch_causes(&self, batch: i64) -> Result<Vec<BatchCause>, StoreError> {
        let statement = statement!("batches/batch_causes");
        let query = statement.query_as().bind(batch);
        self.read_rows(statement.name, query).await
    }

    /// What became of the rows that a redrive made.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn batch_outcomes(&self, batch: i64) -> Result<Vec<StatusCount>, StoreError> {
        let statement = statement!("batches/batch_outcomes");
        let query = statement.query_as().bind(batch);
        self.read_rows(statement.name, query).await
    }

    /// The batches to go on with.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn running_batches(&self) -> Result<Vec<RunningBatch>, StoreError> {
        let statement = statement!("batches/running_batches");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }
}
