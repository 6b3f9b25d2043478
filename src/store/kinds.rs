//! Statements that single kinds of message need: login codes that wait for their exchange.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::Row as _;

use super::kernel::without_nul;
use super::statement::statement;
use super::{Store, StoreError};
use crate::notification::{ClaimedLogin, LoginOutcome, LoginVerdict};

impl Store {
    /// Claims up to `rows` login codes of these mini-programs for `claim_for`, and dead-letters expired ones of every
    /// mini-program.
    ///
    /// # Errors
    ///
    /// Codes may have been claimed without us knowing: their claims lapse, and they count as perhaps used.
    pub async fn claim_logins(
        &self,
        appids: &[String],
        rows: usize,
        claim_for: Duration,
    ) -> Result<Vec<ClaimedLogin>, StoreError> {
        let statement = statement!("kinds/claim_logins");
        let query = statement
            .query()
            .bind(appids)
            .bind(i32::try_from(rows).unwrap_or(i32::MAX))
            .bind(claim_for.as_secs_f64());
        let rows = self
            .run(statement.name, query.fetch_all(&self.pool))
            .await?;
        self.read(statement.name, || {
            let claimed = rows.iter().map(|row| {
                Ok(ClaimedLogin {
                    id: row.try_get("id")?,
                    appid: row.try_get("appid")?,
                    code: SecretString::from(row.try_get::<&str, _>("code")?),
                    claim: row.try_get("claim")?,
                })
            });
            claimed.collect()
        })
    }

    /// Records what exchanges brought. Returns the rows that somebody else holds: settle those again.
    ///
    /// # Errors
    ///
    /// The outcomes may or may not have been recorded: settle them again, a repeat changes nothing.
    pub async fn settle_logins(
        &self,
        outcomes: &[LoginOutcome],
        worker: &str,
    ) -> Result<Vec<i64>, StoreError> {
        let column = |of: fn(&LoginOutcome) -> Option<&str>| -> Vec<Option<String>> {
            outcomes
                .iter()
                .map(|outcome| of(outcome).map(without_nul))
                .collect()
        };
        let after = |outcome: &LoginOutcome| match outcome.verdict {
            LoginVerdict::Retry { after, .. } => Some(after.as_secs_f64()),
            _ => None,
        };
        let is_dead = |outcome: &LoginOutcome| matches!(outcome.verdict, LoginVerdict::Dead { .. });
        let is_unclear = |outcome: &LoginOutcome| {
            matches!(outcome.verdict, LoginVerdict::Retry { unclear: true, .. })
        };
        let statement = statement!("kinds/settle_logins");
        let query = statement
            .query_scalar()
            .bind(
                outcomes
                    .iter()
                    .map(|outcome| outcome.id)
                    .collect::<Vec<_>>(),
            )
            .bind(
                outcomes
                    .iter()
                    .map(|outcome| outcome.claim)
                    .collect::<Vec<_>>(),
            )
            .bind(column(|outcome| match &outcome.verdict {
                LoginVerdict::Receiver(openid) => Some(openid.expose()),
                _ => None,
            }))
            .bind(outcomes.iter().map(is_dead).collect::<Vec<_>>())
            .bind(outcomes.iter().map(is_unclear).collect::<Vec<_>>())
            .bind(outcomes.iter().map(after).collect::<Vec<_>>())
            .bind(
                outcomes
                    .iter()
                    .map(|outcome| outcome.errcode)
                    .collect::<Vec<_>>(),
            )
            .bind(column(|outcome| outcome.errmsg.as_deref()))
            .bind(column(|outcome| match outcome.verdict {
                LoginVerdict::Dead { credit } => Some(credit.as_str()),
                _ => None,
            }))
            .bind(column(|outcome| outcome.rid.as_deref()))
            .bind(worker);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Whether a code of these mini-programs waits for its exchange and may have it.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn logins_wait(&self, appids: &[String]) -> Result<bool, StoreError> {
        let statement = statement!("kinds/logins_wait");
        let query = statement.query_scalar().bind(appids);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }
}
