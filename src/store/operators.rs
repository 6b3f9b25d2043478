//! The statements behind the operators' commands: what they read from the views, and the verbs they call.
//!
//! Each runs in a transaction of its own at READ COMMITTED whose settings are local to it, so it is safe behind
//! a pooler too. The verbs write their own row in `operator_actions`.
//!
//! Start at [`Filter`], then the verbs: `cancel_notifications` and its neighbours.

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

/// The whole story of one notification.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Explanation {
    /// The id asked for.
    pub id: i64,
    /// As in the view `notifications`, or `not found`.
    pub status: String,
    /// What happened and why.
    pub sentence: String,
    /// The same in Chinese.
    pub sentence_zh: String,
    /// What happens next, or what to do.
    pub what_next: String,
    /// The same in Chinese.
    pub what_next_zh: String,
    /// When.
    pub next_at: Option<DateTime<Utc>>,
    /// Everything that happened, oldest first: objects with `at`, `event` and what belongs to it.
    pub timeline: Value,
}

/// Rows not yet final of one app, lane and status.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Backlog {
    /// Whose rows wait.
    pub appid: String,
    /// Its name.
    pub app: Option<String>,
    /// 0 urgent, 1 normal, 2 bulk.
    pub lane: i16,
    /// As in the view `notifications`.
    pub status: String,
    /// How many, of the rows looked at.
    pub rows: i64,
    /// Since when the oldest has been due.
    pub oldest_due: Option<DateTime<Utc>>,
    /// Whether the lane may hold more rows than were looked at.
    pub more: bool,
}

/// What failed in the last 24 hours, by errcode.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Failure {
    /// Who sent them.
    pub appid: String,
    /// `None`: no readable reply.
    pub errcode: Option<i64>,
    /// What it means.
    pub meaning: String,
    /// What it means, in Chinese.
    pub meaning_zh: String,
    /// Attempts that met it.
    pub attempts: i64,
    /// Attempts that ended in the dead letters.
    pub dead: i64,
    /// Attempts that left a doubt.
    pub doubts: i64,
    /// The last of them.
    pub last_at: DateTime<Utc>,
    /// What to do.
    pub advice: String,
    /// What to do, in Chinese.
    pub advice_zh: String,
}

/// Dead letters of the last 24 hours, by errcode.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct DeadCount {
    /// Who sent them.
    pub appid: String,
    /// `dead` or `unresolved`.
    pub status: String,
    /// WeChat's last errcode.
    pub errcode: Option<i64>,
    /// What it means.
    pub meaning: Option<String>,
    /// What it means, in Chinese.
    pub meaning_zh: Option<String>,
    /// How many.
    pub rows: i64,
    /// How many of them were redriven.
    pub redriven: i64,
}

/// One dead letter.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct DeadLetter {
    /// The notification.
    pub id: i64,
    /// Who sent it.
    pub appid: String,
    /// `dead` or `unresolved`.
    pub status: String,
    /// WeChat's last errcode.
    pub errcode: Option<i64>,
    /// The errcode or transport failure in words.
    pub meaning: Option<String>,
    /// The same in Chinese.
    pub meaning_zh: Option<String>,
    /// What became of the user's credit: `kept`, `gone` or `unknown`.
    pub credit: Option<String>,
    /// Sends counted.
    pub attempts: i16,
    /// The template.
    pub template_id: String,
    /// The business object.
    pub business_ref: Option<String>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// What it was redriven as.
    pub redriven_as: Option<i64>,
}

/// One notification in doubt.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Doubt {
    /// The notification.
    pub id: i64,
    /// Whose pair of user and template it blocks.
    pub appid: String,
    /// The template.
    pub template_id: String,
    /// The business object.
    pub business_ref: Option<String>,
    /// Beginning of the first send whose result is unknown.
    pub in_doubt_since: DateTime<Utc>,
    /// `retry` or `hold`.
    pub on_doubt: String,
    /// Sends counted.
    pub attempts: i16,
    /// Most sends.
    pub attempts_max: i16,
    /// Until when evidence is awaited.
    pub next_at: Option<DateTime<Utc>>,
    /// Whether it is being sent again.
    pub is_sending: bool,
    /// What happens then.
    pub what_next: String,
    /// WeChat's messages about this user and template since the doubt began.
    pub events_since: i64,
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

/// One worker that is alive.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct LiveWorker {
    /// `WXNOTIFY_WORKER`.
    pub name: String,
    /// Tells two starts of one name apart.
    pub epoch: i64,
    /// Version of the program.
    pub version: String,
    /// Mini-programs whose secret it has.
    pub appids: Vec<String>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Its last sign of life.
    pub heartbeat_at: DateTime<Utc>,
    /// Sends in flight at that moment.
    pub in_flight: i32,
}

/// A session or prepared transaction that holds what workers need.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Blocker {
    /// What it holds: a lock of wxnotify, or tables.
    pub holds: String,
    /// The mini-program that sends nothing meanwhile; `None`: all may be concerned.
    pub appid: Option<String>,
    /// Its server process; `None`: a prepared transaction.
    pub pid: Option<i32>,
    /// The name of the prepared transaction.
    pub prepared: Option<String>,
    /// Its database user.
    pub username: Option<String>,
    /// Its `application_name`.
    pub application: Option<String>,
    /// Since when; `None`: this user may not see it, and nobody waits.
    pub since: Option<DateTime<Utc>>,
    /// How many wait for it at this moment.
    pub waiting: i64,
    /// The statement that ends it.
    pub end_with: String,
}

impl Blocker {
    /// Who holds what.
    #[must_use]
    pub fn sentence(&self) -> String {
        let who = match (self.pid, &self.prepared) {
            (Some(pid), _) => format!("session {pid}"),
            (None, Some(name)) => format!("prepared transaction {name}"),
            (None, None) => "a session".to_owned(),
        };
        let user = self.username.as_deref().unwrap_or("unknown");
        let application = self.application.as_deref();
        let application = application.map_or_else(String::new, |name| format!(" ({name})"));
        let app = self.appid.as_deref();
        let app = app.map_or_else(String::new, |appid| format!(" {appid}"));
        format!(
            "{who} of user {user}{application} holds {}{app}",
            self.holds
        )
    }
}

/// An app or template that sends nothing now.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Pause {
    /// What stands still, or whose template.
    pub appid: String,
    /// Its name.
    pub app: Option<String>,
    /// The template; `None`: the whole app.
    pub template_id: Option<String>,
    /// When it goes on by itself.
    pub paused_until: Option<DateTime<Utc>>,
    /// Whether only an operator ends it.
    pub needs_operator: bool,
    /// Why.
    pub reason: Option<String>,
    /// The errcode that paused it.
    pub errcode: Option<i64>,
    /// What that means.
    pub meaning: Option<String>,
    /// What that means, in Chinese.
    pub meaning_zh: Option<String>,
    /// The command that ends it.
    pub resume_with: String,
}

/// The state of an app's access token, without the token.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct TokenState {
    /// Whose token it is: there is one for all workers.
    pub appid: String,
    /// Its name.
    pub app: Option<String>,
    /// Grows with each replacement; `None`: no worker has asked for one.
    pub generation: Option<i64>,
    /// When it lapses.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was fetched.
    pub fetched_at: Option<DateTime<Utc>>,
    /// The worker that fetched it.
    pub refreshed_by: Option<String>,
    /// How often it died early because another program refreshed it by force.
    pub foreign_refreshes: i64,
    /// When that was noticed last.
    pub last_foreign_at: Option<DateTime<Utc>>,
    /// Whether it can be used now.
    pub valid: bool,
}

/// One registered mini-program.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct App {
    /// WeChat's appid.
    pub appid: String,
    /// A name for people.
    pub name: Option<String>,
    /// Most sends per second of all workers together; `None`: no limit.
    pub rate_per_second: Option<f32>,
    /// When its pause ends by itself.
    pub paused_until: Option<DateTime<Utc>>,
    /// Whether it is paused now.
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// The errcode that paused it.
    pub pause_errcode: Option<i64>,
    /// Whether one row at a time is tried after a pause.
    pub probing: bool,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// Whether INSERTs may leave `appid` out.
    pub is_default: bool,
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

/// Which attempt a rid belongs to.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct RidOrigin {
    /// Who made the call.
    pub appid: String,
    /// The notification.
    pub notification_id: i64,
    /// Which of its attempts.
    pub attempt: i16,
    /// WeChat's errcode.
    pub errcode: Option<i64>,
}

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
    sqlx::query(include_str!("../../sql/begin_operator_statement.sql"))
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

/// All functions fail with [`StoreError`]; a verb that the database refuses says why in its message and what to do
/// in its hint.
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
    async fn as_operator<R>(
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
    pub async fn find_notifications(
        &self,
        filter: &Filter,
        rows_max: usize,
    ) -> Result<Vec<FoundNotification>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/find_notifications.sql"));
        self.read_rows(
            "find_notifications",
            bind_filter!(query, filter)
                .bind(filter.statuses.as_deref())
                .bind(as_count(rows_max)),
        )
        .await
    }

    /// The ids of notifications that are not final and that `filter`, which names none, selects, at most `rows_max`; those no
    /// verb may change come last. Of the statuses it heeds only whether `in_doubt` is the one.
    pub async fn find_ids(&self, filter: &Filter, rows_max: usize) -> Result<Vec<i64>, StoreError> {
        let only_doubts = filter
            .statuses
            .as_deref()
            .is_some_and(|statuses| statuses == ["in_doubt"]);
        let query = sqlx::query_as(include_str!("../../sql/find_ids.sql"))
            .bind(filter.errcode)
            .bind(filter.template_id.as_deref())
            .bind(filter.business_ref.as_deref())
            .bind(filter.appid.as_deref())
            .bind(only_doubts)
            .bind(as_count(rows_max));
        let ids: Vec<(i64,)> = self.read_rows("find_ids", query).await?;
        Ok(ids.into_iter().map(|(id,)| id).collect())
    }

    /// Final notifications that `filter` selects and that were not redriven before (unless named by id), at
    /// most `rows_max`. `filter` must name statuses.
    pub async fn find_redrivable(
        &self,
        filter: &Filter,
        rows_max: usize,
    ) -> Result<Vec<FoundNotification>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/find_redrivable.sql"));
        self.read_rows(
            "find_redrivable",
            bind_filter!(query, filter)
                .bind(filter.statuses.as_deref())
                .bind(as_count(rows_max)),
        )
        .await
    }

    /// Cancels at most [`BATCH_ROWS`] notifications; with `doubts`, those in doubt end `unresolved`.
    pub async fn cancel_notifications(
        &self,
        ids: &[i64],
        doubts: bool,
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/cancel_notifications.sql"))
            .bind(ids)
            .bind(doubts)
            .bind(audit.note.as_deref())
            .bind(filter);
        self.change_rows("cancel_notifications", audit, query).await
    }

    /// Gives at most [`BATCH_ROWS`] notifications another `send_at` (`None`: now) and, if given, another `expire_at`.
    pub async fn reschedule_notifications(
        &self,
        ids: &[i64],
        send_at: Option<DateTime<Utc>>,
        expire_at: Option<DateTime<Utc>>,
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/reschedule_notifications.sql"))
            .bind(ids)
            .bind(send_at)
            .bind(expire_at)
            .bind(audit.note.as_deref())
            .bind(filter);
        self.change_rows("reschedule_notifications", audit, query)
            .await
    }

    /// Inserts a new notification from each of at most [`BATCH_ROWS`] final ones, to be sent at `send_at` (`None`: now).
    pub async fn redrive_notifications(
        &self,
        ids: &[i64],
        send_at: Option<DateTime<Utc>>,
        expire_at: Option<DateTime<Utc>>,
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/redrive_notifications.sql"))
            .bind(ids)
            .bind(send_at)
            .bind(expire_at)
            .bind(audit.note.as_deref())
            .bind(filter);
        self.change_rows("redrive_notifications", audit, query)
            .await
    }

    /// Ends doubts of at most [`BATCH_ROWS`] notifications; `verdict` is `sent`, `not_sent` or `retry`.
    pub async fn end_doubts(
        &self,
        ids: &[i64],
        verdict: &str,
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/end_doubts.sql"))
            .bind(ids)
            .bind(verdict)
            .bind(audit.note.as_deref())
            .bind(filter);
        self.change_rows("end_doubts", audit, query).await
    }

    /// What happened to one notification; an unknown id has an explanation too.
    pub async fn explain_notification(&self, id: i64) -> Result<Explanation, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/explain_notification.sql")).bind(id);
        let mut rows = self.read_rows("explain_notification", query).await?;
        rows.pop().ok_or(StoreError::Database {
            statement: "explain_notification",
            source: sqlx::Error::RowNotFound,
        })
    }

    /// Rows not yet final by app, lane and status.
    pub async fn backlog(&self, appid: Option<&str>) -> Result<Vec<Backlog>, StoreError> {
        self.read_rows(
            "backlog",
            sqlx::query_as(include_str!("../../sql/backlog.sql")).bind(appid),
        )
        .await
    }

    /// What failed in the last 24 hours, by errcode.
    pub async fn failures_of_last_day(
        &self,
        appid: Option<&str>,
    ) -> Result<Vec<Failure>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/failures_of_last_day.sql"));
        self.read_rows("failures_of_last_day", query.bind(appid))
            .await
    }

    /// Dead letters of the last 24 hours, by errcode.
    pub async fn dead_letters_of_last_day(
        &self,
        appid: Option<&str>,
    ) -> Result<Vec<DeadCount>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/dead_letters_of_last_day.sql"));
        self.read_rows("dead_letters_of_last_day", query.bind(appid))
            .await
    }

    /// The latest dead letters that `filter` selects.
    pub async fn dead_letters(
        &self,
        filter: &Filter,
        rows_max: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/dead_letters.sql"));
        self.read_rows(
            "dead_letters",
            bind_filter!(query, filter).bind(as_count(rows_max)),
        )
        .await
    }

    /// Notifications in doubt that `filter` selects, oldest doubt first.
    pub async fn doubts(&self, filter: &Filter, rows_max: usize) -> Result<Vec<Doubt>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/doubts.sql"));
        self.read_rows(
            "doubts",
            bind_filter!(query, filter).bind(as_count(rows_max)),
        )
        .await
    }

    /// One user's credits, a row for each template.
    pub async fn credits(&self, appid: &str, openid: &str) -> Result<Vec<Credits>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/credits.sql"))
            .bind(appid)
            .bind(openid);
        self.read_rows("credits", query).await
    }

    /// Where one user's books do not balance.
    pub async fn credit_faults(
        &self,
        appid: &str,
        openid: &str,
    ) -> Result<Vec<CreditFault>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/credit_faults.sql"))
            .bind(appid)
            .bind(openid);
        self.read_rows("credit_faults", query).await
    }

    /// How many notifications are in doubt.
    pub async fn count_doubts(&self, appid: Option<&str>) -> Result<i64, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/count_doubts.sql")).bind(appid);
        let rows: Vec<(i64,)> = self.read_rows("count_doubts", query).await?;
        Ok(rows.first().map_or(0, |row| row.0))
    }

    /// Workers that gave a sign of life in the last minute.
    pub async fn live_workers(&self) -> Result<Vec<LiveWorker>, StoreError> {
        self.read_rows(
            "live_workers",
            sqlx::query_as(include_str!("../../sql/live_workers.sql")),
        )
        .await
    }

    /// Who holds what workers need.
    pub async fn blockers(&self, appid: Option<&str>) -> Result<Vec<Blocker>, StoreError> {
        self.read_rows(
            "blockers",
            sqlx::query_as(include_str!("../../sql/blockers.sql")).bind(appid),
        )
        .await
    }

    /// Apps and templates that send nothing now.
    pub async fn pauses(&self, appid: Option<&str>) -> Result<Vec<Pause>, StoreError> {
        self.read_rows(
            "pauses",
            sqlx::query_as(include_str!("../../sql/pauses.sql")).bind(appid),
        )
        .await
    }

    /// The state of every registered app's token.
    pub async fn token_states(&self, appid: Option<&str>) -> Result<Vec<TokenState>, StoreError> {
        self.read_rows(
            "token_states",
            sqlx::query_as(include_str!("../../sql/token_states.sql")).bind(appid),
        )
        .await
    }

    /// Registered mini-programs.
    pub async fn list_apps(&self) -> Result<Vec<App>, StoreError> {
        self.read_rows(
            "list_apps",
            sqlx::query_as(include_str!("../../sql/list_apps.sql")),
        )
        .await
    }

    /// Registers a mini-program, or changes its name and rate (sends per second). True: it was new.
    pub async fn add_app(
        &self,
        appid: &str,
        name: Option<&str>,
        rate: Option<f32>,
        audit: &Audit,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/add_app.sql"))
            .bind(appid)
            .bind(name)
            .bind(rate)
            .bind(audit.note.as_deref());
        self.change_one("add_app", audit, query).await
    }

    /// Makes `appid` the default of `pending_notifications.appid`. Only the table's owner may.
    pub async fn set_default_app(&self, appid: &str, audit: &Audit) -> Result<(), StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/set_default_app.sql"))
            .bind(appid)
            .bind(audit.note.as_deref());
        self.change_one("set_default_app", audit, query).await
    }

    /// Most sends per second of all workers together; `None`: no limit.
    pub async fn set_app_rate(
        &self,
        appid: &str,
        rate: Option<f32>,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/set_app_rate.sql"))
            .bind(appid)
            .bind(rate)
            .bind(audit.note.as_deref());
        self.change_one("set_app_rate", audit, query).await
    }

    /// Nothing more of the app is leased until then; `None`: until an operator resumes it.
    pub async fn pause_app_by_operator(
        &self,
        appid: &str,
        until: Option<DateTime<Utc>>,
        reason: &str,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/pause_app_by_operator.sql"))
            .bind(appid)
            .bind(until)
            .bind(reason)
            .bind(audit.note.as_deref());
        self.change_one("pause_app_by_operator", audit, query).await
    }

    /// Ends an app's pause and makes at most [`BATCH_ROWS`] parked rows due; returns how many. Call it again while it
    /// returns that many.
    pub async fn resume_app(&self, appid: &str, audit: &Audit) -> Result<i32, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/resume_app.sql"))
            .bind(appid)
            .bind(audit.note.as_deref());
        self.change_one("resume_app", audit, query).await
    }

    /// Rows of the template wait until then; `None`: until an operator resumes it.
    pub async fn pause_template_by_operator(
        &self,
        appid: &str,
        template_id: &str,
        until: Option<DateTime<Utc>>,
        reason: &str,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/pause_template_by_operator.sql"))
            .bind(appid)
            .bind(template_id)
            .bind(until)
            .bind(reason)
            .bind(audit.note.as_deref());
        self.change_one("pause_template_by_operator", audit, query)
            .await
    }

    /// Ends a template's pause and makes at most [`BATCH_ROWS`] parked rows due; returns how many. Call it again while it
    /// returns that many.
    pub async fn resume_template(
        &self,
        appid: &str,
        template_id: &str,
        audit: &Audit,
    ) -> Result<i32, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/resume_template.sql"))
            .bind(appid)
            .bind(template_id)
            .bind(audit.note.as_deref());
        self.change_one("resume_template", audit, query).await
    }

    /// The attempt that a rid belongs to; `called_at` is the Unix time it begins with.
    pub async fn find_rid(
        &self,
        rid: &str,
        called_at: i64,
    ) -> Result<Option<RidOrigin>, StoreError> {
        let statement = statement!("status/find_rid");
        let query = statement.query_as().bind(rid).bind(called_at as f64);
        Ok(self.read_rows(statement.name, query).await?.pop())
    }

    /// Writes down an operator's action that happens elsewhere than in the database.
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
fn as_count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
