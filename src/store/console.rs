//! Statements of the console alone: its lists, and its people and sessions. What commands ask, too, stands with the operators' statements.
//!
//! Start at [`Store::find_by_ids`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::FromRow;

use super::statement::statement;
use super::verbs::Audit;
use super::{Store, StoreError};

/// A row of a list.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Found {
    /// The notification.
    pub id: i64,
    /// Who sends it.
    pub appid: String,
    /// As in the view `notifications`.
    pub status: String,
    /// The template.
    pub template_id: String,
    /// The business object.
    pub business_ref: Option<String>,
    /// WeChat's errcode.
    pub errcode: Option<i64>,
    /// Its words, or why it waits.
    pub errmsg: Option<String>,
    /// How many.
    pub attempts: i16,
    /// What became of the user's credit.
    pub credit: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When something next happens.
    pub next_at: Option<DateTime<Utc>>,
}

/// A notification that a key means.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Key {
    /// The notification.
    pub id: i64,
    /// Which kind of key it was.
    pub found_by: String,
}

/// What ended in some minutes, by status.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Minute {
    /// The beginning of the minutes.
    pub minute: DateTime<Utc>,
    /// As in the view `notifications`.
    pub status: String,
    /// How many.
    pub rows: i64,
}

/// How long messages of the last hour took.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Latency {
    /// From due to sent, in seconds: p50, p95, p99.
    pub sent: Option<Vec<f64>>,
    /// From sent to the receipt, in seconds: p50, p95, p99.
    pub confirmed: Option<Vec<f64>>,
    /// Accepted more than ten minutes ago without a receipt.
    pub unconfirmed: i64,
    /// Ended expired.
    pub expired: i64,
}

/// Dead letters of one cause.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct DeadCause {
    /// Whose rows died.
    pub appid: String,
    /// As in the view `notifications`.
    pub status: String,
    /// WeChat's errcode.
    pub errcode: Option<i64>,
    /// What it means.
    pub meaning: Option<String>,
    /// What it means, in Chinese.
    pub meaning_zh: Option<String>,
    /// What became of the user's credit.
    pub credit: Option<String>,
    /// How many.
    pub rows: i64,
    /// How many of them were redriven.
    pub redriven: i64,
    /// The first of them.
    pub first_at: DateTime<Utc>,
    /// The last of them.
    pub last_at: DateTime<Utc>,
}

/// Attempts that failed of one cause, in the last 24 hours.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct FailureCause {
    /// Whose attempts failed.
    pub appid: String,
    /// WeChat's errcode.
    pub errcode: Option<i64>,
    /// What it means.
    pub meaning: String,
    /// What it means, in Chinese.
    pub meaning_zh: String,
    /// What wxnotify does about it.
    pub disposition: Option<String>,
    /// How many.
    pub attempts: i64,
    /// Attempts that ended in the dead letters.
    pub dead: i64,
    /// Attempts that left a doubt.
    pub doubts: i64,
    /// The first of them.
    pub first_at: DateTime<Utc>,
    /// The last of them.
    pub last_at: DateTime<Utc>,
    /// What to do.
    pub advice: String,
    /// What to do, in Chinese.
    pub advice_zh: String,
}

/// One action of an operator.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Action {
    /// The notification.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// The verb.
    pub action: String,
    /// Which rows were asked for.
    pub filter: Value,
    /// How many rows it changed.
    pub rows_changed: i64,
    /// Why.
    pub note: Option<String>,
}

/// Receiver and texts of a notification, shown on request.
#[derive(Clone, FromRow)]
pub struct Revealed {
    /// The receiver.
    pub openid: Option<String>,
    /// The fields of the message.
    pub data: Option<Value>,
    /// The page that the card opens.
    pub page: Option<String>,
}

/// Somebody who may log in.
#[derive(Clone, FromRow)]
pub struct User {
    /// As they log in.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// Argon2id, in PHC form.
    pub password_hash: String,
}

/// Somebody who may log in, for a list.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct ListedUser {
    /// As they log in.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// How many are open.
    pub sessions: i64,
}

/// Who a session belongs to.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Person {
    /// As they log in.
    pub name: String,
    /// `viewer`, `operator` or `admin`.
    pub role: String,
}

/// An open session.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Session {
    /// As they log in.
    pub name: String,
    /// When they logged in.
    pub began_at: DateTime<Utc>,
    /// The last request, to the minute.
    pub seen_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
    /// From where.
    pub address: String,
}

/// Failed log-ins of the last 15 minutes.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Tries {
    /// Of this name.
    pub of_name: i64,
    /// From this address.
    pub of_address: i64,
}

/// Which rows a list shows; `None` leaves a condition out.
#[derive(Debug, Clone, Default)]
pub struct Narrowed {
    /// As in the view `notifications`.
    pub statuses: Vec<String>,
    /// Rows of this one alone.
    pub appid: Option<String>,
    /// The template.
    pub template_id: Option<String>,
    /// WeChat's errcode.
    pub errcode: Option<i64>,
    /// Of rows that have ended: not before.
    pub since: DateTime<Utc>,
    /// Of rows that have ended: behind this one.
    pub after: Option<(DateTime<Utc>, i64)>,
    /// At most so many.
    pub rows_max: i64,
}

/// Of all functions: the database did not answer in time, or this role may not.
impl Store {
    /// Rows that have ended, the latest first.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn find_ended(&self, narrowed: &Narrowed) -> Result<Vec<Found>, StoreError> {
        let statement = statement!("console/find_ended");
        let query = statement
            .query_as()
            .bind(&narrowed.statuses)
            .bind(narrowed.appid.as_deref())
            .bind(narrowed.template_id.as_deref())
            .bind(narrowed.errcode)
            .bind(narrowed.since)
            .bind(narrowed.after.map(|(at, _)| at))
            .bind(narrowed.after.map(|(_, id)| id))
            .bind(narrowed.rows_max);
        self.read_rows(statement.name, query).await
    }

    /// Rows that have not ended, the next first.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn find_waiting(&self, narrowed: &Narrowed) -> Result<Vec<Found>, StoreError> {
        let statement = statement!("console/find_waiting");
        let query = statement
            .query_as()
            .bind(&narrowed.statuses)
            .bind(narrowed.appid.as_deref())
            .bind(narrowed.template_id.as_deref())
            .bind(narrowed.errcode)
            .bind(narrowed.rows_max);
        self.read_rows(statement.name, query).await
    }

    /// The rows of these ids, the latest first.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn find_by_ids(&self, ids: &[i64], rows_max: i64) -> Result<Vec<Found>, StoreError> {
        let statement = statement!("console/find_by_ids");
        let query = statement.query_as().bind(ids).bind(rows_max);
        self.read_rows(statement.name, query).await
    }

    /// The rows that a key means: id, business_ref, dedup_key, msgid or rid.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn ids_of_key(&self, key: &str, rows_max: i32) -> Result<Vec<Key>, StoreError> {
        let statement = statement!("console/ids_of_key");
        let query = statement.query_as().bind(key).bind(rows_max);
        self.read_rows(statement.name, query).await
    }

    /// The rows of a user.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn ids_of_openid(&self, openid: &str, rows_max: i32) -> Result<Vec<Key>, StoreError> {
        let statement = statement!("console/ids_of_openid");
        let query = statement.query_as().bind(openid).bind(rows_max);
        self.read_rows(statement.name, query).await
    }

    /// What ended in the last `minutes`, in bins of `bin` minutes.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn outcomes(
        &self,
        minutes: i32,
        bin: i32,
        appid: Option<&str>,
    ) -> Result<Vec<Minute>, StoreError> {
        let statement = statement!("console/outcomes");
        let query = statement.query_as().bind(minutes).bind(bin).bind(appid);
        self.read_rows(statement.name, query).await
    }

    /// How long messages of the last hour took.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn latency(&self, appid: Option<&str>) -> Result<Option<Latency>, StoreError> {
        let statement = statement!("console/latency");
        let query = statement.query_as().bind(appid);
        Ok(self.read_rows(statement.name, query).await?.pop())
    }

    /// Dead letters of the last hours by cause.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn dead_causes(
        &self,
        appid: Option<&str>,
        hours: i32,
    ) -> Result<Vec<DeadCause>, StoreError> {
        let statement = statement!("console/dead_causes");
        let query = statement.query_as().bind(appid).bind(hours);
        self.read_rows(statement.name, query).await
    }

    /// Failed attempts of the last 24 hours by cause.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn failure_causes(
        &self,
        appid: Option<&str>,
    ) -> Result<Vec<FailureCause>, StoreError> {
        let statement = statement!("console/failures");
        let query = statement.query_as().bind(appid);
        self.read_rows(statement.name, query).await
    }

    /// Who did what, the latest first.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn actions(
        &self,
        actor: Option<&str>,
        action: Option<&str>,
        before: Option<i64>,
        rows_max: i64,
    ) -> Result<Vec<Action>, StoreError> {
        let statement = statement!("console/actions");
        let query = statement
            .query_as()
            .bind(actor)
            .bind(action)
            .bind(before)
            .bind(rows_max);
        self.read_rows(statement.name, query).await
    }

    /// Somebody who may log in.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn find_user(&self, name: &str) -> Result<Option<User>, StoreError> {
        let statement = statement!("console/find_user");
        let query = statement.query_as().bind(name);
        Ok(self.read_rows(statement.name, query).await?.pop())
    }

    /// Everybody who may log in.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn list_users(&self) -> Result<Vec<ListedUser>, StoreError> {
        let statement = statement!("console/list_users");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// Who has a session.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn find_session(&self, token_hash: &[u8]) -> Result<Option<Person>, StoreError> {
        let statement = statement!("console/find_session");
        let query = statement.query_as().bind(token_hash);
        Ok(self.read_rows(statement.name, query).await?.pop())
    }

    /// The open sessions, the latest used first.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn list_sessions(&self) -> Result<Vec<Session>, StoreError> {
        let statement = statement!("console/list_sessions");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// Failed log-ins of the last 15 minutes.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn count_tries(
        &self,
        name: &str,
        address: &str,
    ) -> Result<Option<Tries>, StoreError> {
        let statement = statement!("console/count_tries");
        let query = statement.query_as().bind(name).bind(address);
        Ok(self.read_rows(statement.name, query).await?.pop())
    }

    /// Adds somebody who may log in. `false`: there is one of that name.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn add_user(
        &self,
        name: &str,
        role: &str,
        password_hash: &str,
    ) -> Result<bool, StoreError> {
        let statement = statement!("console/add_user");
        let query = statement
            .query_as::<(String,)>()
            .bind(name)
            .bind(role)
            .bind(password_hash);
        Ok(!self.read_rows(statement.name, query).await?.is_empty())
    }

    /// Sets a new password, which ends the sessions. `false`: there is nobody of that name.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn set_password(&self, name: &str, password_hash: &str) -> Result<bool, StoreError> {
        let statement = statement!("console/set_password");
        let query = statement
            .query_as::<(String,)>()
            .bind(name)
            .bind(password_hash);
        Ok(!self.read_rows(statement.name, query).await?.is_empty())
    }

    /// Removes somebody and their sessions. `false`: there is nobody of that name.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn remove_user(&self, name: &str) -> Result<bool, StoreError> {
        let statement = statement!("console/remove_user");
        let query = statement.query_as::<(String,)>().bind(name);
        Ok(!self.read_rows(statement.name, query).await?.is_empty())
    }

    /// Begins a session.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn begin_session(
        &self,
        token_hash: &[u8],
        name: &str,
        lasts: Duration,
        address: &str,
    ) -> Result<(), StoreError> {
        let statement = statement!("console/begin_session");
        let query = statement
            .query()
            .bind(token_hash)
            .bind(name)
            .bind(lasts.as_secs_f64())
            .bind(address);
        self.run(statement.name, query.execute(&self.pool))
            .await
            .map(drop)
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn end_session(&self, token_hash: &[u8]) -> Result<(), StoreError> {
        let statement = statement!("console/end_session");
        let query = statement.query().bind(token_hash);
        self.run(statement.name, query.execute(&self.pool))
            .await
            .map(drop)
    }

    /// Ends the sessions of somebody.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn end_sessions_of(&self, name: &str) -> Result<(), StoreError> {
        let statement = statement!("console/end_sessions_of");
        let query = statement.query().bind(name);
        self.run(statement.name, query.execute(&self.pool))
            .await
            .map(drop)
    }

    /// Notes a log-in that failed.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn note_try(&self, name: &str, address: &str) -> Result<(), StoreError> {
        let statement = statement!("console/note_try");
        let query = statement.query().bind(name).bind(address);
        self.run(statement.name, query.execute(&self.pool))
            .await
            .map(drop)
    }

    /// Receiver and texts of a notification; that they were asked for is recorded.
    ///
    /// # Errors
    ///
    /// The database did not answer in time, or refuses this role.
    pub async fn reveal(&self, id: i64, audit: &Audit) -> Result<Option<Revealed>, StoreError> {
        let statement = statement!("console/reveal");
        let query = statement.query_as().bind(id).bind(audit.note.as_deref());
        Ok(self.change_rows(statement.name, audit, query).await?.pop())
    }
}
