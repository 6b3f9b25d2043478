//! Statements on quiet hours: when reminders, retries, redrives and the end of a pause wait.

use chrono::{DateTime, NaiveTime, Utc};
use serde::Serialize;
use sqlx::FromRow;

use super::statement::statement;
use super::verbs::Audit;
use super::{Store, StoreError};

/// Quiet hours of a mini-program or of one of its templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct QuietHours {
    /// Whose sends wait.
    pub appid: String,
    /// One of its templates; `None`: all that have none of their own.
    pub template_id: Option<String>,
    /// Wall time, `HH:MM`, inclusive.
    pub begins: String,
    /// Wall time, `HH:MM`, exclusive; before `begins`: on the next day.
    pub ends: String,
    /// The zone of both; a reminder's count in its own.
    pub time_zone: String,
    /// Who set them.
    pub set_by: String,
    /// When.
    pub set_at: DateTime<Utc>,
    /// Rows that wait for their end.
    pub waiting: i64,
}

/// All functions fail with [`StoreError`]; a verb that the database refuses says why in its message and what to do in its hint.
impl Store {
    /// Quiet hours by mini-program.
    pub async fn list_quiet_hours(
        &self,
        appid: Option<&str>,
    ) -> Result<Vec<QuietHours>, StoreError> {
        let statement = statement!("quiet/list_quiet_hours");
        self.read_rows(statement.name, statement.query_as().bind(appid))
            .await
    }

    /// Sets quiet hours. Returns how many rows need not wait any more and became due, at most a thousand: call it again for more.
    pub async fn set_quiet_hours(
        &self,
        appid: &str,
        template_id: Option<&str>,
        hours: (NaiveTime, NaiveTime),
        time_zone: &str,
        audit: &Audit,
    ) -> Result<i32, StoreError> {
        let statement = statement!("quiet/set_quiet_hours");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(hours.0)
            .bind(hours.1)
            .bind(template_id)
            .bind(time_zone)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Ends quiet hours. Returns how many rows became due, at most a thousand: call it again for more.
    pub async fn clear_quiet_hours(
        &self,
        appid: &str,
        template_id: Option<&str>,
        audit: &Audit,
    ) -> Result<i32, StoreError> {
        let statement = statement!("quiet/clear_quiet_hours");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(template_id)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }
}
