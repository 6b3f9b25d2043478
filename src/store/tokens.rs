//! The access tokens that workers share: claims to fetch one, the token's row, and what operators may know of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::Row as _;

use super::statement::statement;
use super::{Store, StoreError};
use crate::wechat::access_token::{AccessToken, FetchedToken};

/// The answer to asking for a token.
#[derive(Debug)]
pub enum TokenClaim {
    /// Use this one.
    Have {
        /// The token.
        token: AccessToken,
        /// What is left of its life.
        life: Duration,
    },
    /// Fetch one, then store it or give the claim back.
    Claimed {
        /// The number of the claim.
        claim: i64,
        /// The token of now, if there is one.
        current: Option<AccessToken>,
        /// How often in a row WeChat handed back the token that had failed.
        unchanged: i16,
    },
    /// Another process is fetching: ask again soon.
    Wait,
}

/// What became of a fetched token.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StoredToken {
    /// `false`: the claim was no longer the latest; ask again.
    pub stored: bool,
    /// The latest generation.
    pub generation: i64,
    /// The token before it died early though nobody here replaced it.
    pub foreign_refresh: bool,
}

/// What an operator may know of a token.
#[derive(Debug, Clone, PartialEq, serde::Serialize, sqlx::FromRow)]
pub struct TokenStatus {
    /// Whose token it is: there is one for all workers.
    pub appid: String,
    /// How often it was replaced.
    pub generation: i64,
    /// How often in a row WeChat handed back the very token that had failed.
    pub unchanged: i16,
    /// Seconds left, negative when it has expired; `None`: none was fetched yet.
    pub expires_in_secs: Option<f64>,
    /// The worker that fetched it, name and epoch.
    pub refreshed_by: Option<String>,
    /// When it was fetched.
    pub fetched_at: Option<DateTime<Utc>>,
    /// Forced refreshes of this day in China, of 20.
    pub forced_today: i16,
    /// The last forced refresh.
    pub last_forced_at: Option<DateTime<Utc>>,
    /// How often something else replaced the token by force.
    pub foreign_refreshes: i64,
    /// When that was noticed last.
    pub last_foreign_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Asks for a token with at least `life_min` left that is newer than generation `failed`; without one, for the
    /// claim to fetch it, which others respect for `claim_for`.
    ///
    /// # Errors
    ///
    /// The database did not answer. A claim that may have been taken ends by itself.
    pub async fn claim_token(
        &self,
        appid: &str,
        worker: &str,
        failed: Option<i64>,
        life_min: Duration,
        claim_for: Duration,
    ) -> Result<TokenClaim, StoreError> {
        let statement = statement!("tokens/claim_token");
        let query = statement
            .query()
            .bind(appid)
            .bind(worker)
            .bind(failed)
            .bind(life_min.as_secs_f64())
            .bind(claim_for.as_secs_f64());
        let row = self
            .run(statement.name, query.fetch_one(&self.pool))
            .await?;
        read_claim(&row).map_err(|source| StoreError::Database {
            statement: statement.name,
            source,
        })
    }

    /// Stores a token that was fetched under `claim`, to replace generation `failed` if one was refused.
    ///
    /// # Errors
    ///
    /// The database did not answer; the token may be stored all the same.
    pub async fn store_token(
        &self,
        appid: &str,
        worker: &str,
        claim: i64,
        fetched: &FetchedToken,
        failed: Option<i64>,
    ) -> Result<StoredToken, StoreError> {
        let statement = statement!("tokens/store_token");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(worker)
            .bind(claim)
            .bind(fetched.token.expose_secret())
            .bind(fetched.expires_in.as_secs_f64())
            .bind(failed);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Gives a claim back after a fetch that failed.
    ///
    /// # Errors
    ///
    /// The database did not answer; the claim then ends by itself.
    pub async fn release_token_claim(&self, appid: &str, claim: i64) -> Result<(), StoreError> {
        let statement = statement!("tokens/release_token_claim");
        let query = statement.query().bind(appid).bind(claim);
        self.run(statement.name, query.execute(&self.pool)).await?;
        Ok(())
    }

    /// Takes one forced refresh of the day's budget. `false`: none is to be had now.
    ///
    /// # Errors
    ///
    /// The database did not answer; the refresh may have been counted.
    pub async fn take_forced_refresh(&self, appid: &str, claim: i64) -> Result<bool, StoreError> {
        let statement = statement!("tokens/take_forced_refresh");
        let query = statement.query_scalar().bind(appid).bind(claim);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// What an operator may know of every token, by appid; never the token.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn token_status(&self) -> Result<Vec<TokenStatus>, StoreError> {
        let statement = statement!("tokens/token_status");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }
}

fn read_claim(row: &sqlx::postgres::PgRow) -> sqlx::Result<TokenClaim> {
    let generation: i64 = row.try_get("generation")?;
    let token: Option<String> = row.try_get("access_token")?;
    let token = token.map(|token| AccessToken::new(SecretString::from(token), generation));
    Ok(match (row.try_get("verdict")?, token) {
        ("have", Some(token)) => {
            let life_secs: f64 = row.try_get("life_secs")?;
            let life = Duration::try_from_secs_f64(life_secs).unwrap_or_default();
            TokenClaim::Have { token, life }
        }
        ("claimed", current) => TokenClaim::Claimed {
            claim: row.try_get("claim")?,
            current,
            unchanged: row.try_get("unchanged")?,
        },
        _ => TokenClaim::Wait,
    })
}
