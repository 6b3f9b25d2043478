//! Statements on templates as WeChat lists them, and on the questions to WeChat that are due: templates and quotas.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;

use super::statement::statement;
use super::verbs::Audit;
use super::{Store, StoreError};
use crate::wechat::account::ListedTemplate;

/// A question to WeChat that this process has claimed.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Lookup {
    /// Whose list or quota is asked for.
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
    /// Whose template it is: ids are private to a mini-program.
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
    /// Whose templates these are.
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
    /// Whose rows they are.
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

impl Store {
    /// Claims the questions that are due for these mini-programs.
    pub async fn claim_lookups(
        &self,
        appids: &[String],
        worker: &str,
        claim_for: Duration,
    ) -> Result<Vec<Lookup>, StoreError> {
        let statement = statement!("templates/claim_lookups");
        let query = statement
            .query_as()
            .bind(appids)
            .bind(worker)
            .bind(claim_for.as_secs_f64());
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }

    /// Claims one question at once, whoever has it; the mini-program must be registered.
    pub async fn claim_lookup(
        &self,
        appid: &str,
        lookup: &str,
        worker: &str,
        claim_for: Duration,
    ) -> Result<i64, StoreError> {
        let statement = statement!("templates/claim_lookup");
        let query = statement
            .query_scalar()
            .bind(appid)
            .bind(lookup)
            .bind(worker)
            .bind(claim_for.as_secs_f64());
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Brings every question of these mini-programs forward, to `gap` after it was last asked.
    pub async fn want_lookups(&self, appids: &[String], gap: Duration) -> Result<(), StoreError> {
        let statement = statement!("templates/want_lookups");
        let query = statement.query().bind(appids).bind(gap.as_secs_f64());
        self.run(statement.name, query.execute(&self.pool))
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
        let statement = statement!("templates/fail_lookup");
        let query = statement
            .query_scalar()
            .bind(&lookup.appid)
            .bind(&lookup.lookup)
            .bind(lookup.claim)
            .bind(errcode)
            .bind(error);
        self.run(statement.name, query.fetch_optional(&self.pool))
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
        let statement = statement!("templates/store_templates");
        let query = statement
            .query_scalar::<Option<Json<TemplateChanges>>>()
            .bind(&lookup.appid)
            .bind(lookup.claim)
            .bind(Json(templates))
            .bind(believe_empty);
        let changes = self
            .run(statement.name, query.fetch_one(&self.pool))
            .await?;
        Ok(changes.map(|Json(changes)| changes))
    }

    /// Templates that WeChat lists or listed, and those that are or were paused.
    pub async fn list_templates(&self, appid: Option<&str>) -> Result<Vec<Template>, StoreError> {
        let statement = statement!("templates/list_templates");
        let query = statement.query_as().bind(appid);
        self.read_rows(statement.name, query).await
    }

    /// When the templates of each registered app were last asked for.
    pub async fn template_lookups(
        &self,
        appid: Option<&str>,
    ) -> Result<Vec<TemplateLookup>, StoreError> {
        let statement = statement!("templates/list_template_lookups");
        let query = statement.query_as().bind(appid);
        self.read_rows(statement.name, query).await
    }

    /// Rows on templates that WeChat does not list any more.
    pub async fn stranded(&self, appid: Option<&str>) -> Result<Vec<Stranded>, StoreError> {
        let statement = statement!("templates/stranded");
        let query = statement.query_as().bind(appid);
        self.read_rows(statement.name, query).await
    }

    /// Sets what an INSERT that does not fit the template meets: `reject`, `truncate` or `off`.
    pub async fn set_template_check(
        &self,
        appid: &str,
        template_id: &str,
        check: &str,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let statement = statement!("templates/set_template_check");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(template_id)
            .bind(check)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }
}
