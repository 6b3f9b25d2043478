//! Statements of upkeep: partitions, retention, the schema's age, what the server promises, gauges.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::statement::statement;
use super::{Store, StoreError};
use crate::schema::{Books, Found};
use crate::telemetry::QueueWeight;

/// What a commit waits for before it is reported.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Durability {
    /// Standbys connected now.
    pub standbys: i64,
    /// The server's setting; empty: commits wait for no standby.
    pub synchronous_standby_names: String,
    /// The setting of our sessions, which is never `off`.
    pub synchronous_commit: String,
}

impl Durability {
    /// Why a failover or a crash may lose commits, and with them the record that something was sent; `None`: it may not.
    #[must_use]
    pub fn weakness(&self) -> Option<String> {
        match self.synchronous_commit.as_str() {
            "local" if self.standbys > 0 => {}
            _ if self.standbys > 0 && self.synchronous_standby_names.trim().is_empty() => {}
            _ => return None,
        }
        Some(format!(
            "commits wait for none of the {} standbys: a failover loses the last commits, and what was being sent is then \
             sent again unnoticed; set synchronous_standby_names (and synchronous_commit to on)",
            self.standbys
        ))
    }
}

impl Store {
    /// Makes the monthly partitions ahead. Returns how many were made.
    ///
    /// # Errors
    ///
    /// Call it again later: they are made three months ahead.
    pub async fn make_partitions(&self) -> Result<i32, StoreError> {
        let statement = statement!("upkeep/make_partitions");
        let query = statement.query_scalar();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Drops partitions whose month ended `keep_months` or more ago, and forgets their dedup keys. Returns the names of
    /// what was dropped.
    ///
    /// # Errors
    ///
    /// Call it again later: a long report on the history may have been in the way.
    pub async fn drop_old_partitions(&self, keep_months: i32) -> Result<Vec<String>, StoreError> {
        let mut dropped = Vec::new();
        loop {
            let drop_old_partition = statement!("upkeep/drop_old_partition");
            let query = drop_old_partition
                .query_scalar::<Option<String>>()
                .bind(keep_months);
            match self
                .run(drop_old_partition.name, query.fetch_one(&self.pool))
                .await?
            {
                Some(partition) => dropped.push(partition),
                None => break,
            }
        }
        let drop_old_keys = statement!("upkeep/drop_old_keys");
        let keys = drop_old_keys.query().bind(keep_months);
        self.run(drop_old_keys.name, keys.execute(&self.pool))
            .await?;
        Ok(dropped)
    }

    /// A connection beside the pool, for a migration, which sets its session otherwise.
    ///
    /// # Errors
    ///
    /// The database did not answer, or refused.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        self.run("connect", self.pool.address().connect(self.deadline))
            .await
    }

    /// What the schema says of itself; a schema from before the first release says nothing.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn read_schema_books(&self) -> Result<Found, StoreError> {
        let statement = statement!("migrate/read_books");
        let query = statement.query();
        match self
            .run(statement.name, query.fetch_optional(&self.pool))
            .await
        {
            Ok(None) => Ok(Found::Nothing),
            Ok(Some(row)) => Ok(Found::Books(Books {
                level: row.get("level"),
                serves: row.get("serves"),
                release: row.get("release"),
                fingerprint: row.get("fingerprint"),
                rights: row.get("rights"),
            })),
            Err(error) if error.sqlstate().as_deref() == Some("42P01") => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Changes when the server was restarted or another was promoted.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn server_identity(&self) -> Result<String, StoreError> {
        let statement = statement!("upkeep/server_identity");
        let query = statement.query_scalar();
        self.run(statement.name, query.fetch_one(&self.leasing))
            .await
    }

    /// What a commit waits for.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn durability(&self) -> Result<Durability, StoreError> {
        let statement = statement!("upkeep/durability");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Lists what WeChat did not confirm within an hour, for the view `notification_unconfirmed`. Returns whether the list has come
    /// as far as it may; else there is more at once.
    ///
    /// # Errors
    ///
    /// Call it again later: until then the view reads more of the history.
    pub async fn keep_unconfirmed(&self) -> Result<bool, StoreError> {
        let statement = statement!("upkeep/keep_unconfirmed");
        let query = statement.query_scalar();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// What the gauges show; counts stop at 10,000.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn backlog_gauges(&self) -> Result<QueueWeight, StoreError> {
        let statement = statement!("status/backlog_gauges");
        let query = statement.query_as::<(i64, i64, i64, f64, DateTime<Utc>)>();
        let (due, doubt, paused, age, counted_at) = self
            .run(statement.name, query.fetch_one(&self.pool))
            .await?;
        Ok(QueueWeight {
            due_rows: due.unsigned_abs(),
            oldest_due_age: Duration::from_secs_f64(age.max(0.0)),
            rows_in_doubt: doubt.unsigned_abs(),
            paused_apps: paused.unsigned_abs(),
            counted_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weakness(standbys: i64, names: &str, commit: &str) -> bool {
        let durability = Durability {
            standbys,
            synchronous_standby_names: names.to_owned(),
            synchronous_commit: commit.to_owned(),
        };
        durability.weakness().is_some()
    }

    #[test]
    fn commits_that_wait_for_no_standby_are_a_weakness_only_where_there_is_one() {
        assert!(weakness(1, "", "on"));
        assert!(weakness(2, " ", "remote_apply"));
        assert!(weakness(1, "*", "local"));
        assert!(!weakness(0, "", "on"));
        assert!(!weakness(0, "", "local"));
        assert!(!weakness(1, "ANY 1 (*)", "on"));
        assert!(!weakness(1, "s1", "remote_write"));
    }
}
