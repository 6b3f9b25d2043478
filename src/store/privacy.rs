//! Statements on persons: all that is kept of one user, its erasure, and what is forgotten by age.

use serde::Serialize;
use serde_json::Value;
use sqlx::FromRow;

use super::statement::statement;
use super::verbs::Audit;
use super::{Store, StoreError};

/// What is forgotten by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// Texts.
    Data,
    /// Receivers, and their texts with them.
    Openids,
}

/// A row that is kept of a person. It has no `Debug`: it is all about somebody.
#[derive(Clone, Serialize, FromRow)]
pub struct PersonRow {
    /// Its table.
    pub what: String,
    /// Its columns.
    pub record: Value,
}

/// How many rows of a table, or how many rows something was done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct PersonCount {
    /// The table, or what was done.
    pub what: String,
    /// How many.
    pub rows: i64,
}

/// All functions fail with [`StoreError`]; a verb that the database refuses says why in its message and what to do in its hint.
impl Store {
    /// Everything that is kept of a user; that it was read is recorded.
    pub async fn export_person(
        &self,
        appid: &str,
        openid: &str,
        audit: &Audit,
    ) -> Result<Vec<PersonRow>, StoreError> {
        let statement = statement!("privacy/export_person");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(openid)
            .bind(audit.note.as_deref());
        self.run(statement.name, self.as_operator(&audit.actor, query))
            .await
    }

    /// How many rows are kept of a user, by table.
    pub async fn count_person(
        &self,
        appid: &str,
        openid: &str,
    ) -> Result<Vec<PersonCount>, StoreError> {
        let statement = statement!("privacy/count_person");
        self.read_rows(
            statement.name,
            statement.query_as().bind(appid).bind(openid),
        )
        .await
    }

    /// A step of an erasure, at most a thousand rows of each table: what was done to how many. Call it until that is nothing.
    pub async fn erase_person(
        &self,
        appid: &str,
        openid: &str,
        audit: &Audit,
    ) -> Result<Vec<PersonCount>, StoreError> {
        let statement = statement!("privacy/erase_person");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(openid)
            .bind(audit.note.as_deref());
        self.run(statement.name, self.as_operator(&audit.actor, query))
            .await
    }

    /// Forgets what ended more than `days` ago, a step. `false`: there is more.
    pub async fn forget_old(&self, what: Forgotten, days: i32) -> Result<bool, StoreError> {
        let statement = statement!("privacy/forget_old");
        let book = match what {
            Forgotten::Data => "data",
            Forgotten::Openids => "openids",
        };
        let query = statement.query_scalar().bind(book).bind(days);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }
}
