//! What operators do to notifications, mini-programs and templates: the verbs of `sql/schema/verbs/`, and what they choose from.
//!
//! Each statement runs in a transaction of its own at READ COMMITTED whose settings are local to it, so it is safe behind
//! a pooler too. The verbs write their own row in `operator_actions`.
//!
//! Start at [`Store::find_ids`], then [`Store::cancel_notifications`].

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{Connection, FromRow, PgConnection, Postgres};

use super::statement::statement;
use super::{Store, StoreError};

/// The most rows a verb changes in one transaction: settles of the workers pass over them meanwhile.
pub const BATCH_ROWS: usize = 1000;

/// Who acts, and what goes into the audit row.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The operating system's user; the database adds its own.
    pub actor: String,
    /// The operator's own words.
    pub note: Option<String>,
}

/// Which notifications a command is about. `None` leaves a condition out; all given ones must hold.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Filter {
    /// These ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<i64>>,
    /// WeChat's last errcode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errcode: Option<i64>,
    /// The template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// The business object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub business_ref: Option<String>,
    /// Rows of this one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appid: Option<String>,
    /// Statuses as in the view `notifications`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<String>>,
}

impl Filter {
    /// Whether it has no condition but statuses: it would select everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_none()
            && self.errcode.is_none()
            && self.template_id.is_none()
            && self.business_ref.is_none()
            && self.appid.is_none()
    }
}

/// A notification that a filter found.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct FoundNotification {
    /// Kept for life.
    pub id: i64,
    /// Who sends it.
    pub appid: String,
    /// As in the view `notifications`.
    pub status: String,
    /// Why it waits or how it ended.
    pub reason: Option<String>,
    /// The same as a code: `notification_reasons` has its words.
    pub reason_code: String,
    /// When something next happens to it.
    pub next_at: Option<DateTime<Utc>>,
    /// The template.
    pub template_id: String,
    /// The business object.
    pub business_ref: Option<String>,
    /// WeChat's last errcode.
    pub errcode: Option<i64>,
    /// Sends counted.
    pub attempts: i16,
    /// Beginning of the first send whose result is or was unknown.
    pub in_doubt_since: Option<DateTime<Utc>>,
    /// When it was inserted.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What a verb did to one notification.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct VerbResult {
    /// The notification asked for.
    pub id: i64,
    /// What became of it: the verb's own word when it was changed, else why not (`in flight`, `in doubt`, `busy`,
    /// its final status, `not found`).
    pub result: String,
    /// For a redrive: the notification inserted from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_id: Option<i64>,
}

/// For whom the console asks: the database checks the role, and takes the console's word for the name.
#[derive(Debug, Clone)]
pub struct Acting {
    /// As in `console_users`.
    pub person: String,
    /// `wxnotify_viewer` or `wxnotify_operator`.
    pub role: &'static str,
    /// The zone in which sentences name times.
    pub zone: &'static str,
    /// The server ends a statement that takes longer.
    pub patience: Duration,
}

/// How long a command's statement may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Binds a filter's conditions but the statuses, in the order in which all statements name them.
macro_rules! bind_filter {
    ($query:expr, $filter:expr) => {
        $query
            .bind($filter.ids.as_deref())
            .bind($filter.errcode)
            .bind($filter.template_id.as_deref())
            .bind($filter.business_ref.as_deref())
            .bind($filter.appid.as_deref())
    };
}
pub(super) use bind_filter;

/// Nothing in it is prepared: it may lead through a pooler.
async fn in_transaction<R>(
    connection: &mut PgConnection,
    actor: &str,
    acting: Option<&Acting>,
    query: sqlx::query::QueryAs<'_, Postgres, R, sqlx::postgres::PgArguments>,
) -> sqlx::Result<Vec<R>>
where
    R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let mut transaction = connection
        .begin_with("begin isolation level read committed")
        .await?;
    statement!("verbs/begin_operator_statement")
        .query()
        .bind(actor)
        .bind(format!(
            "{}ms",
            acting
                .map_or(PATIENCE, |acting| acting.patience)
                .as_millis()
        ))
        .bind(acting.map_or("", |acting| &*acting.person))
        .bind(acting.map(|acting| acting.role))
        .bind(acting.map(|acting| acting.zone))
        .persistent(false)
        .execute(&mut *transaction)
        .await?;
    let rows = query.persistent(false).fetch_all(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(rows)
}

impl Store {
    /// The same, with operators' statements run for somebody.
    #[must_use]
    pub fn acting_for(&self, acting: Acting) -> Self {
        Self {
            acting: Some(Arc::new(acting)),
            ..self.clone()
        }
    }

    /// Runs one operator's statement in a transaction of its own.
    pub(super) async fn as_operator<R>(
        &self,
        actor: &str,
        query: sqlx::query::QueryAs<'_, Postgres, R, sqlx::postgres::PgArguments>,
    ) -> sqlx::Result<Vec<R>>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut connection = self.pool.borrow().await?;
        let rows = in_transaction(&mut connection, actor, self.acting.as_deref(), query).await;
        connection.ended(&rows);
        rows
    }

    pub(super) async fn read_rows<R>(
        &self,
        statement: &'static str,
        query: sqlx::query::QueryAs<'_, Postgres, R, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.run(statement, self.as_operator("", query)).await
    }

    /// Runs a verb that answers with rows.
    pub(super) async fn change_rows<R>(
        &self,
        statement: &'static str,
        audit: &Audit,
        query: sqlx::query::QueryAs<'_, Postgres, R, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        self.run(statement, self.as_operator(&audit.actor, query))
            .await
    }

    /// Runs a verb that answers with one value.
    pub(super) async fn change_one<T>(
        &self,
        statement: &'static str,
        audit: &Audit,
        query: sqlx::query::QueryAs<'_, Postgres, (T,), sqlx::postgres::PgArguments>,
    ) -> Result<T, StoreError>
    where
        (T,): for<'r> FromRow<'r, PgRow>,
        T: Send + Unpin,
    {
        self.run(statement, async {
            let rows = self.as_operator(&audit.actor, query).await?;
            let (value,) = rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
            Ok(value)
        })
        .await
    }

    /// Notifications that `filter` selects by their ids, at most `rows_max`; those no verb may change come last.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn find_notifications(
        &self,
        filter: &Filter,
        rows_max: usize,
    ) -> Result<Vec<FoundNotification>, StoreError> {
        let statement = statement!("status/find_notifications");
        let query = statement.query_as();
        self.read_rows(
            statement.name,
            bind_filter!(query, filter)
                .bind(filter.statuses.as_deref())
                .bind(as_count(rows_max)),
        )
        .await
    }

    /// The ids of notifications that are not final and that `filter`, which names none, selects, at most `rows_max`; those no
    /// verb may change come last. Of the statuses it heeds only whether `in_doubt` is the one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn find_ids(&self, filter: &Filter, rows_max: usize) -> Result<Vec<i64>, StoreError> {
        let statement = statement!("status/find_ids");
        let only_doubts = filter
            .statuses
            .as_deref()
            .is_some_and(|statuses| statuses == ["in_doubt"]);
        let query = statement
            .query_as()
            .bind(filter.errcode)
            .bind(filter.template_id.as_deref())
            .bind(filter.business_ref.as_deref())
            .bind(filter.appid.as_deref())
            .bind(only_doubts)
            .bind(as_count(rows_max));
        let ids: Vec<(i64,)> = self.read_rows(statement.name, query).await?;
        Ok(ids.into_iter().map(|(id,)| id).collect())
    }

    /// Final notifications that `filter` selects and that were not redriven before (unless named by id), at
    /// most `rows_max`. `filter` must name statuses.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn find_redrivable(
        &self,
        filter: &Filter,
        rows_max: usize,
    ) -> Result<Vec<FoundNotification>, StoreError> {
        let statement = statement!("status/find_redrivable");
        let query = statement.query_as();
        self.read_rows(
            statement.name,
            bind_filter!(query, filter)
                .bind(filter.statuses.as_deref())
                .bind(as_count(rows_max)),
        )
        .await
    }

    /// Cancels at most [`BATCH_ROWS`] notifications; with `doubts`, those in doubt end `unresolved`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn cancel_notifications(
        &self,
        ids: &[i64],
        doubts: bool,
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        let statement = statement!("verbs/cancel_notifications");
        let query = statement
            .query_as()
            .bind(ids)
            .bind(doubts)
            .bind(audit.note.as_deref())
            .bind(filter);
        self.change_rows(statement.name, audit, query).await
    }

    /// Gives at most [`BATCH_ROWS`] notifications another `send_at` (`None`: now) and, if given, another `expire_at`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn reschedule_notifications(
        &self,
        ids: &[i64],
        send_at: Option<DateTime<Utc>>,
        expire_at: Option<DateTime<Utc>>,
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        let statement = statement!("verbs/reschedule_notifications");
        let query = statement
            .query_as()
            .bind(ids)
            .bind(send_at)
            .bind(expire_at)
            .bind(audit.note.as_deref())
            .bind(filter);
        self.change_rows(statement.name, audit, query).await
    }

    /// Inserts a new notification from each of at most [`BATCH_ROWS`] final ones, to be sent at `send_at` (`None`: now).
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn redrive_notifications(
        &self,
        ids: &[i64],
        send_at: Option<DateTime<Utc>>,
        expire_at: Option<DateTime<Utc>>,
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        let statement = statement!("verbs/redrive_notifications");
        let query = statement
            .query_as()
            .bind(ids)
            .bind(send_at)
            .bind(expire_at)
            .bind(audit.note.as_deref())
            .bind(filter);
        self.change_rows(statement.name, audit, query).await
    }

    /// Ends doubts of at most [`BATCH_ROWS`] notifications; `verdict` is `sent`, `not_sent` or `retry`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn end_doubts(
        &self,
        ids: &[i64],
        verdict: &str,
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        let statement = statement!("verbs/end_doubts");
        let query = statement
            .query_as()
            .bind(ids)
            .bind(verdict)
            .bind(audit.note.as_deref())
            .bind(filter);
        self.change_rows(statement.name, audit, query).await
    }

    /// Registers a mini-program, or changes its name and rate (sends per second). True: it was new.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn add_app(
        &self,
        appid: &str,
        name: Option<&str>,
        rate: Option<f32>,
        audit: &Audit,
    ) -> Result<bool, StoreError> {
        let statement = statement!("verbs/add_app");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(name)
            .bind(rate)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Makes `appid` the default of `pending_notifications.appid`. Only the table's owner may.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn set_default_app(&self, appid: &str, audit: &Audit) -> Result<(), StoreError> {
        let statement = statement!("verbs/set_default_app");
        let query = statement.query_as().bind(appid).bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Most sends per second of all workers together; `None`: no limit.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn set_app_rate(
        &self,
        appid: &str,
        rate: Option<f32>,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let statement = statement!("verbs/set_app_rate");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(rate)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// A reminder of the mini-program to more users than this waits for an operator's approval; `None`: none does.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn set_app_approval(
        &self,
        appid: &str,
        above: Option<i32>,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let statement = statement!("verbs/set_app_approval");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(above)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Nothing more of the app is leased until then; `None`: until an operator resumes it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn pause_app_by_operator(
        &self,
        appid: &str,
        until: Option<DateTime<Utc>>,
        reason: &str,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let statement = statement!("verbs/pause_app_by_operator");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(until)
            .bind(reason)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Ends an app's pause and makes at most [`BATCH_ROWS`] parked rows due; returns how many. Call it again while it
    /// returns that many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn resume_app(&self, appid: &str, audit: &Audit) -> Result<i32, StoreError> {
        let statement = statement!("verbs/resume_app");
        let query = statement.query_as().bind(appid).bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Rows of the template wait until then; `None`: until an operator resumes it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn pause_template_by_operator(
        &self,
        appid: &str,
        template_id: &str,
        until: Option<DateTime<Utc>>,
        reason: &str,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let statement = statement!("verbs/pause_template_by_operator");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(template_id)
            .bind(until)
            .bind(reason)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Ends a template's pause and makes at most [`BATCH_ROWS`] parked rows due; returns how many. Call it again while it
    /// returns that many.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn resume_template(
        &self,
        appid: &str,
        template_id: &str,
        audit: &Audit,
    ) -> Result<i32, StoreError> {
        let statement = statement!("verbs/resume_template");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(template_id)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Writes down an operator's action that happens elsewhere than in the database.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed, or, after a deadline, perhaps all; a refusal says why and, in its hint, what to do.
    pub async fn record_action(
        &self,
        action: &str,
        filter: &serde_json::Value,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let statement = statement!("verbs/record_action");
        let query = statement
            .query_as()
            .bind(action)
            .bind(filter)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }
}

/// A row count as a parameter.
pub(super) fn as_count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
