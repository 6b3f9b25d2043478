//! What WeChat says of mini-programs, as it is kept here: questions that are due, templates, quotas, calls by their rid.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;

use super::operators::Audit;
use super::{Store, StoreError};
use crate::wechat::account::{ListedTemplate, Quota};

/// A question to WeChat that this process has claimed.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Lookup {
    /// The mini-program.
    pub appid: String,
    /// `templates` or `quota`.
    pub lookup: String,
    /// The number of the claim.
    pub claim: i64,
}

/// What a new list of templates changed, by template id: `added`, `changed`, `removed` or `back`.
pub type TemplateChanges = BTreeMap<String, String>;

/// One template: as WeChat lists or listed it, and its pause.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Template {
    /// The mini-program.
    pub appid: String,
    /// WeChat's private template id.
    pub template_id: String,
    /// Its title; `None`: never listed.
    pub title: Option<String>,
    /// `one_time` or `long_term`.
    pub kind: Option<String>,
    /// The keys of its fields in order.
    pub fields: Option<Vec<String>>,
    /// The values allowed for a key, by key.
    pub enums: Option<serde_json::Value>,
    /// Its text with the places of the fields.
    pub content: Option<String>,
    /// `reject`, `truncate` or `off`.
    pub data_check: String,
    /// When WeChat's list first had it.
    pub listed_at: Option<DateTime<Utc>>,
    /// When WeChat's list last had it.
    pub synced_at: Option<DateTime<Utc>>,
    /// When it was missing from WeChat's list.
    pub removed_at: Option<DateTime<Utc>>,
    /// When its pause ends by itself.
    pub paused_until: Option<DateTime<Utc>>,
    /// Whether it is paused now.
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// The errcode that paused it.
    pub pause_errcode: Option<i64>,
}

/// When an app's templates were last asked for.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct TemplateLookup {
    /// The mini-program.
    pub appid: String,
    /// When WeChat last answered.
    pub done_at: Option<DateTime<Utc>>,
    /// When asking failed since.
    pub failed_at: Option<DateTime<Utc>>,
    /// WeChat's errcode of that failure.
    pub errcode: Option<i64>,
    /// The failure in words.
    pub error: Option<String>,
    /// When WeChat is asked next.
    pub next_at: Option<DateTime<Utc>>,
}

/// Rows on a template that WeChat does not list any more.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Stranded {
    /// The mini-program.
    pub appid: String,
    /// The template that is gone.
    pub template_id: String,
    /// Its title.
    pub title: Option<String>,
    /// When it was first missing.
    pub removed_at: DateTime<Utc>,
    /// A listed template with the same title and fields.
    pub successor_id: Option<String>,
    /// Held credits on the old id.
    pub held: i64,
    /// Other rows not final on the old id.
    pub waiting: i64,
}

/// What `quota/get` last said of a mini-program, and the rate that follows.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct QuotaState {
    /// The mini-program.
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

/// Which attempt a rid belongs to.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct RidOrigin {
    /// The mini-program.
    pub appid: String,
    /// The notification.
    pub notification_id: i64,
    /// Which of its attempts.
    pub attempt: i16,
    /// WeChat's errcode.
    pub errcode: Option<i64>,
}

/// All functions fail with [`StoreError`]; each may be repeated.
impl Store {
    /// Claims the questions that are due for these mini-programs.
    pub async fn claim_lookups(
        &self,
        appids: &[String],
        worker: &str,
        claim_for: Duration,
    ) -> Result<Vec<Lookup>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/claim_lookups.sql"))
            .bind(appids)
            .bind(worker)
            .bind(claim_for.as_secs_f64());
        self.run("claim_lookups", query.fetch_all(&self.pool)).await
    }

    /// Claims one question at once, whoever has it; the mini-program must be registered.
    pub async fn claim_lookup(
        &self,
        appid: &str,
        lookup: &str,
        worker: &str,
        claim_for: Duration,
    ) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/claim_lookup.sql"))
            .bind(appid)
            .bind(lookup)
            .bind(worker)
            .bind(claim_for.as_secs_f64());
        self.run("claim_lookup", query.fetch_one(&self.pool)).await
    }

    /// Brings every question of these mini-programs forward, to `gap` after it was last asked.
    pub async fn want_lookups(&self, appids: &[String], gap: Duration) -> Result<(), StoreError> {
        let query = sqlx::query(include_str!("../../sql/want_lookups.sql"))
            .bind(appids)
            .bind(gap.as_secs_f64());
        self.run("want_lookups", query.execute(&self.pool))
            .await
            .map(drop)
    }

    /// Ends a claim whose question failed; when it is asked again. `None`: the claim was no longer the latest.
    pub async fn fail_lookup(
        &self,
        lookup: &Lookup,
        errcode: Option<i64>,
        error: &str,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/fail_lookup.sql"))
            .bind(&lookup.appid)
            .bind(&lookup.lookup)
            .bind(lookup.claim)
            .bind(errcode)
            .bind(error);
        self.run("fail_lookup", query.fetch_optional(&self.pool))
            .await
    }

    /// Stores WeChat's list of templates; what changed. `None`: the claim was no longer the latest.
    ///
    /// An empty list after a full one counts only when `believe_empty` is set: it pauses every template.
    pub async fn store_templates(
        &self,
        lookup: &Lookup,
        templates: &[ListedTemplate],
        believe_empty: bool,
    ) -> Result<Option<TemplateChanges>, StoreError> {
        let query = sqlx::query_scalar::<_, Option<Json<TemplateChanges>>>(include_str!(
            "../../sql/store_templates.sql"
        ))
        .bind(&lookup.appid)
        .bind(lookup.claim)
        .bind(Json(templates))
        .bind(believe_empty);
        let changes = self
            .run("store_templates", query.fetch_one(&self.pool))
            .await?;
        Ok(changes.map(|Json(changes)| changes))
    }

    /// Stores what `quota/get` says of sends. `false`: the claim was no longer the latest.
    pub async fn store_quota(&self, lookup: &Lookup, quota: Quota) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/store_quota.sql"))
            .bind(&lookup.appid)
            .bind(lookup.claim)
            .bind(quota.daily_limit)
            .bind(quota.used)
            .bind(quota.remaining)
            .bind(quota.rate_per_second);
        self.run("store_quota", query.fetch_one(&self.pool)).await
    }

    /// Templates that WeChat lists or listed, and those that are or were paused.
    pub async fn list_templates(&self, appid: Option<&str>) -> Result<Vec<Template>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/list_templates.sql")).bind(appid);
        self.read_rows("list_templates", query).await
    }

    /// When the templates of each registered app were last asked for.
    pub async fn template_lookups(
        &self,
        appid: Option<&str>,
    ) -> Result<Vec<TemplateLookup>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/list_template_lookups.sql")).bind(appid);
        self.read_rows("list_template_lookups", query).await
    }

    /// Rows on templates that WeChat does not list any more.
    pub async fn stranded(&self, appid: Option<&str>) -> Result<Vec<Stranded>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/stranded.sql")).bind(appid);
        self.read_rows("stranded", query).await
    }

    /// What `quota/get` last said of the registered apps.
    pub async fn quotas(&self, appid: Option<&str>) -> Result<Vec<QuotaState>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/list_quotas.sql")).bind(appid);
        self.read_rows("list_quotas", query).await
    }

    /// Sets what an INSERT that does not fit the template meets: `reject`, `truncate` or `off`.
    pub async fn set_template_check(
        &self,
        appid: &str,
        template_id: &str,
        check: &str,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/set_template_check.sql"))
            .bind(appid)
            .bind(template_id)
            .bind(check)
            .bind(audit.note.as_deref());
        self.change_one("set_template_check", audit, query).await
    }

    /// The attempt that a rid belongs to; `called_at` is the Unix time it begins with.
    pub async fn find_rid(
        &self,
        rid: &str,
        called_at: i64,
    ) -> Result<Option<RidOrigin>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/find_rid.sql"))
            .bind(rid)
            .bind(called_at as f64);
        Ok(self.read_rows("find_rid", query).await?.pop())
    }

    /// Writes down an operator's action that happens elsewhere than in the database.
    pub async fn record_action(
        &self,
        action: &str,
        filter: &serde_json::Value,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/record_action.sql"))
            .bind(action)
            .bind(filter)
            .bind(audit.note.as_deref());
        self.change_one("record_action", audit, query).await
    }
}
