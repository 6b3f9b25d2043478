//! Statements on checks: which rows wait for one, and what the business answered.
//!
//! A check is a function of the business and may do anything that its owner may: hang, raise, lock tables, change settings. So it is asked
//! on a connection of its own, in a transaction that cannot write, and the connection is closed behind it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection, FromRow, PgConnection};

use super::statement::statement;
use super::verbs::Audit;
use super::{Store, StoreError};

/// How long a check may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// How much longer one may take that catches its time-out, before its process is ended.
const ENDED_AFTER: Duration = Duration::from_millis(500);

/// Rows whose check is to be asked, claimed for some seconds.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Claim {
    /// The check's name; `None`: they have none any more.
    pub check_name: Option<String>,
    /// The function, as `schema.function`; `None`: there is no such check.
    pub function_name: Option<String>,
    /// Why the function may not be asked, in words.
    pub fault: Option<String>,
    /// Their mini-program.
    pub appid: String,
    /// The rows.
    pub ids: Vec<i64>,
    /// Their `business_ref`, in the order of `ids`; null where the row has none.
    pub refs: Vec<Option<String>>,
}

/// A check, and how it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Check {
    /// What schedules call it.
    pub name: String,
    /// The business's function.
    pub function_name: String,
    /// What becomes of rows when it fails: `hold` or `drop`.
    pub on_error: String,
    /// How often it was asked.
    pub asked: i64,
    /// How often that failed.
    pub errors: i64,
    /// When it was asked last.
    pub asked_at: Option<DateTime<Utc>>,
    /// Since when it fails.
    pub failing_since: Option<DateTime<Utc>>,
    /// Why it cannot be asked, or how it failed last.
    pub problem: Option<String>,
    /// Rows that wait for it.
    pub waiting: i64,
}

/// What operators do to checks.
impl Store {
    /// All checks, by name.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn list_checks(&self) -> Result<Vec<Check>, StoreError> {
        let statement = statement!("checks/list_checks");
        self.read_rows(statement.name, statement.query_as()).await
    }

    /// Adds a check, or changes it. `true`: it was new.
    ///
    /// # Errors
    ///
    /// Nothing was changed; a refusal says why.
    pub async fn add_check(
        &self,
        name: &str,
        function_name: &str,
        on_error: &str,
        audit: &Audit,
    ) -> Result<bool, StoreError> {
        let statement = statement!("checks/add_check");
        let query = statement
            .query_as()
            .bind(name)
            .bind(function_name)
            .bind(on_error)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Removes a check that nobody names.
    ///
    /// # Errors
    ///
    /// Nothing was changed; a refusal says who names it.
    pub async fn remove_check(&self, name: &str, audit: &Audit) -> Result<(), StoreError> {
        let statement = statement!("checks/remove_check");
        let query = statement.query_as().bind(name).bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// The check of a template's reminders that name none; `None`: none.
    ///
    /// # Errors
    ///
    /// Nothing was changed; a refusal says why.
    pub async fn set_template_still_true(
        &self,
        appid: &str,
        template_id: &str,
        check: Option<&str>,
        audit: &Audit,
    ) -> Result<(), StoreError> {
        let statement = statement!("checks/set_template_still_true");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(template_id)
            .bind(check)
            .bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }
}

/// What workers do.
impl Store {
    /// Whether rows wait for a check.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn checks_wait(&self) -> Result<bool, StoreError> {
        let statement = statement!("checks/checks_wait");
        let query = statement.query_scalar();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Claims rows whose check is to be asked now, `rows` of each mini-program at most.
    ///
    /// # Errors
    ///
    /// They may be claimed: others find them some seconds later.
    pub async fn claim_checks(&self, rows: i32) -> Result<Vec<Claim>, StoreError> {
        let statement = statement!("checks/claim_checks");
        let query = statement.query_as().bind(rows);
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }

    /// Asks a function which of `refs` still hold.
    ///
    /// # Errors
    ///
    /// Why it could not be asked, or what was wrong with its answer, without a word that it said: that may be about a person.
    pub async fn ask_check(
        &self,
        function_name: &str,
        refs: &[Option<String>],
    ) -> Result<Vec<String>, String> {
        let connecting = self.pool.address().connect(self.deadline);
        let mut connection = connecting
            .await
            .map_err(|_| "no connection for it could be had".to_owned())?;
        let mut process = None;
        let asking = ask(&mut connection, function_name, refs, &mut process);
        let answer = tokio::time::timeout(ANSWERS_WITHIN + ENDED_AFTER, asking).await;
        match answer {
            Ok(Ok(Some(holding))) => {
                let _ = tokio::time::timeout(ENDED_AFTER, connection.close()).await;
                Ok(holding)
            }
            Ok(Ok(None)) => Err("answered with null, or not with a list of texts".to_owned()),
            Ok(Err(error)) => Err(describe_failure(&error)),
            Err(_) => {
                if let Some(process) = process {
                    self.end_asking(process).await;
                }
                Err(no_answer())
            }
        }
    }

    /// Closing our end would not stop a process that asks nobody.
    async fn end_asking(&self, process: i32) {
        let statement = statement!("checks/end_asking");
        let query = statement.query().bind(process);
        let _ = self
            .run(statement.name, query.execute(&self.pool))
            .await
            .inspect_err(|error| tracing::warn!("A check that hangs was not ended: {error}"));
    }

    /// Records which refs of a claim still hold. Returns how many rows ended.
    ///
    /// # Errors
    ///
    /// Call it again; what was recorded is not recorded twice.
    pub async fn settle_checks(
        &self,
        claim: &Claim,
        holding: &[String],
    ) -> Result<i32, StoreError> {
        let statement = statement!("checks/settle_checks");
        let query = statement
            .query_scalar()
            .bind(&claim.check_name)
            .bind(&claim.appid)
            .bind(&claim.ids)
            .bind(&claim.refs)
            .bind(holding);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Records that a claim's check could not be asked. Returns how many rows ended.
    ///
    /// # Errors
    ///
    /// Call it again.
    pub async fn fail_check(&self, claim: &Claim, problem: &str) -> Result<i32, StoreError> {
        let statement = statement!("checks/fail_check");
        let query = statement
            .query_scalar()
            .bind(&claim.check_name)
            .bind(&claim.appid)
            .bind(&claim.ids)
            .bind(problem);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }
}

/// One question. `process` is the server's, once it is known.
async fn ask(
    connection: &mut PgConnection,
    function_name: &str,
    refs: &[Option<String>],
    process: &mut Option<i32>,
) -> sqlx::Result<Option<Vec<String>>> {
    // Not prepared: behind a pooler the server's process is another's afterwards.
    let mut transaction = connection
        .begin_with(statement!("checks/begin_asking").text)
        .await?;
    let (pid, _, _): (i32, String, String) = statement!("checks/bound_asking")
        .query_as()
        .bind(ANSWERS_WITHIN.as_millis().to_string())
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    *process = Some(pid);
    let holding = statement!("checks/ask_check")
        .query_scalar()
        .bind(function_name)
        .bind(refs)
        .persistent(false)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.rollback().await?;
    Ok(holding)
}

/// What went wrong, without what the function said.
fn describe_failure(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        // Ours: why the function may not be asked.
        Some(error) if error.code().as_deref() == Some("55000") => error.message().to_owned(),
        Some(error) if error.code().as_deref() == Some("57014") => no_answer(),
        Some(error) => format!(
            "raised SQLSTATE {}",
            error.code().as_deref().unwrap_or("unknown")
        ),
        None => "its connection was lost".to_owned(),
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", ANSWERS_WITHIN.as_secs())
}
