//! Statements on quotas and rates.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::statement::statement;
use super::{Lookup, Store, StoreError};
use crate::wechat::account::Quota;

/// What `quota/get` last said of a mini-program, and the rate that follows.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct QuotaState {
    /// Whose calls are counted.
    pub appid: String,
    /// Its name.
    pub app: Option<String>,
    /// Sends a day; `None`: never asked.
    pub daily_limit: Option<i64>,
    /// Sends of the day.
    pub used: Option<i64>,
    /// Sends left of the day.
    pub remaining: Option<i64>,
    /// Sends per second by WeChat's word.
    pub quota_rate_per_second: Option<f32>,
    /// Sends per second set by an operator.
    pub operator_rate_per_second: Option<f32>,
    /// Sends per second now; `None`: no limit is known.
    pub rate_per_second: Option<f32>,
    /// Whether it is still less than usual after WeChat's 45011.
    pub rate_is_cut: bool,
    /// When WeChat said so.
    pub read_at: Option<DateTime<Utc>>,
    /// Whether it is paused because the day's quota is used up.
    pub used_up: bool,
    /// WeChat's errcode when asking last failed.
    pub errcode: Option<i64>,
    /// That failure in words.
    pub error: Option<String>,
    /// When WeChat is asked next.
    pub next_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Stores what `quota/get` says of sends. `false`: the claim was no longer the latest.
    pub async fn store_quota(&self, lookup: &Lookup, quota: Quota) -> Result<bool, StoreError> {
        let statement = statement!("quotas/store_quota");
        let query = statement
            .query_scalar()
            .bind(&lookup.appid)
            .bind(lookup.claim)
            .bind(quota.daily_limit)
            .bind(quota.used)
            .bind(quota.remaining)
            .bind(quota.rate_per_second);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// What `quota/get` last said of the registered apps.
    pub async fn quotas(&self, appid: Option<&str>) -> Result<Vec<QuotaState>, StoreError> {
        let statement = statement!("quotas/list_quotas");
        let query = statement.query_as().bind(appid);
        self.read_rows(statement.name, query).await
    }

    /// Takes up to `want` sends of a mini-program's rate, to be used within a second.
    ///
    /// # Errors
    ///
    /// The slice may be lost: the rate is then a little lower for a second.
    pub async fn take_rate(&self, appid: &str, want: i32, workers: i32) -> Result<i32, StoreError> {
        let statement = statement!("quotas/take_rate");
        let query = statement
            .query_scalar()
            .bind(appid)
            .bind(want)
            .bind(workers);
        self.run(statement.name, query.fetch_one(&self.leasing))
            .await
    }
}
