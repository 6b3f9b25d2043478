//! What operators read: the backlog, doubts, dead letters, failures, pauses, tokens, workers, and the story of one notification.
//!
//! Start at [`Store::backlog`] and [`Store::explain_notification`].

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::FromRow;

use super::statement::statement;
use super::verbs::{Filter, as_count, bind_filter};
use super::{Store, StoreError};

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
    /// What it holds, as a code: `app_lock`, `partitions_lock`, `ledger_lock` or `tables`.
    pub holds_code: String,
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
    /// Why, as a code: `app_paused`, `template_paused`, `template_removed` or `unknown_app`.
    pub reason_code: String,
}

impl Pause {
    /// Whether it stands for rows of a mini-program that nobody registered.
    #[must_use]
    pub fn is_of_unknown_app(&self) -> bool {
        self.reason_code == "unknown_app"
    }
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

/// Which attempt a rid belongs to.
#[derive(Debug, Clone, Serialize, FromRow)]
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

impl Store {
    /// What happened to one notification; an unknown id has an explanation too.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn explain_notification(&self, id: i64) -> Result<Explanation, StoreError> {
        let statement = statement!("status/explain_notification");
        let query = statement.query_as().bind(id);
        let mut rows = self.read_rows(statement.name, query).await?;
        rows.pop().ok_or(StoreError::Database {
            statement: statement.name,
            source: sqlx::Error::RowNotFound,
        })
    }

    /// Rows not yet final by app, lane and status.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn backlog(&self, appid: Option<&str>) -> Result<Vec<Backlog>, StoreError> {
        let statement = statement!("status/backlog");
        self.read_rows(statement.name, statement.query_as().bind(appid))
            .await
    }

    /// What failed in the last 24 hours, by errcode.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn failures_of_last_day(
        &self,
        appid: Option<&str>,
    ) -> Result<Vec<Failure>, StoreError> {
        let statement = statement!("status/failures_of_last_day");
        let query = statement.query_as();
        self.read_rows(statement.name, query.bind(appid)).await
    }

    /// Dead letters of the last 24 hours, by errcode.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn dead_letters_of_last_day(
        &self,
        appid: Option<&str>,
    ) -> Result<Vec<DeadCount>, StoreError> {
        let statement = statement!("status/dead_letters_of_last_day");
        let query = statement.query_as();
        self.read_rows(statement.name, query.bind(appid)).await
    }

    /// The latest dead letters that `filter` selects.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn dead_letters(
        &self,
        filter: &Filter,
        rows_max: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let statement = statement!("status/dead_letters");
        let query = statement.query_as();
        self.read_rows(
            statement.name,
            bind_filter!(query, filter).bind(as_count(rows_max)),
        )
        .await
    }

    /// Notifications in doubt that `filter` selects, oldest doubt first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn doubts(&self, filter: &Filter, rows_max: usize) -> Result<Vec<Doubt>, StoreError> {
        let statement = statement!("status/doubts");
        let query = statement.query_as();
        self.read_rows(
            statement.name,
            bind_filter!(query, filter).bind(as_count(rows_max)),
        )
        .await
    }

    /// How many notifications are in doubt.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn count_doubts(&self, appid: Option<&str>) -> Result<i64, StoreError> {
        let statement = statement!("status/count_doubts");
        let query = statement.query_as().bind(appid);
        let rows: Vec<(i64,)> = self.read_rows(statement.name, query).await?;
        Ok(rows.first().map_or(0, |row| row.0))
    }

    /// Workers that gave a sign of life in the last minute.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn live_workers(&self) -> Result<Vec<LiveWorker>, StoreError> {
        let statement = statement!("status/live_workers");
        self.read_rows(statement.name, statement.query_as()).await
    }

    /// Who holds what workers need.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn blockers(&self, appid: Option<&str>) -> Result<Vec<Blocker>, StoreError> {
        let statement = statement!("status/blockers");
        self.read_rows(statement.name, statement.query_as().bind(appid))
            .await
    }

    /// Apps and templates that send nothing now.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn pauses(&self, appid: Option<&str>) -> Result<Vec<Pause>, StoreError> {
        let statement = statement!("status/pauses");
        self.read_rows(statement.name, statement.query_as().bind(appid))
            .await
    }

    /// The state of every registered app's token.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn token_states(&self, appid: Option<&str>) -> Result<Vec<TokenState>, StoreError> {
        let statement = statement!("status/token_states");
        self.read_rows(statement.name, statement.query_as().bind(appid))
            .await
    }

    /// Registered mini-programs.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn list_apps(&self) -> Result<Vec<App>, StoreError> {
        let statement = statement!("status/list_apps");
        self.read_rows(statement.name, statement.query_as()).await
    }

    /// The attempt that a rid belongs to; `called_at` is the Unix time it begins with.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the database is away, lacks the schema, or did not answer in time.
    pub async fn find_rid(
        &self,
        rid: &str,
        called_at: i64,
    ) -> Result<Option<RidOrigin>, StoreError> {
        let statement = statement!("status/find_rid");
        let query = statement.query_as().bind(rid).bind(called_at as f64);
        Ok(self.read_rows(statement.name, query).await?.pop())
    }
}
