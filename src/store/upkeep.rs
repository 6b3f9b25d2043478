//! Statements around the queue: worker registration, the bell, fronts of lanes, rates, partitions, gauges.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{Connections, Store, StoreError};
use crate::schema::{Books, Found};
use crate::telemetry::QueueWeight;

/// The first row of one lane.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Front {
    /// The mini-program.
    pub appid: String,
    /// 0, 1 or 2.
    pub lane: i16,
    /// Seconds until it is due: negative when overdue, `None` when it is never due by itself.
    pub due_in_secs: Option<f64>,
    /// The database's clock.
    pub at: DateTime<Utc>,
}

/// A registered mini-program whose secret this worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingApp {
    /// The mini-program.
    pub appid: String,
    /// Whether its sends need a slice of its rate.
    pub has_rate: bool,
}

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
    /// Every lane and its front, for the leaser; one index probe a lane.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn fronts(&self) -> Result<Vec<Front>, StoreError> {
        self.fronts_over(&self.leasing).await
    }

    /// The same for upkeep: the leaser's connection is not to wait for it.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn fronts_for_upkeep(&self) -> Result<Vec<Front>, StoreError> {
        self.fronts_over(&self.pool).await
    }

    async fn fronts_over(&self, connections: &Connections) -> Result<Vec<Front>, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/fronts.sql"));
        self.run("fronts", query.fetch_all(connections)).await
    }

    /// Ends expired and exhausted rows at the front of a lane and parks what cannot be leased now. Returns how many.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn tidy(&self, appid: &str, lane: i16, rows: i32) -> Result<i32, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/tidy.sql"))
            .bind(appid)
            .bind(lane)
            .bind(rows);
        self.run("tidy", query.fetch_one(&self.pool)).await
    }

    /// Takes up to `want` sends of a mini-program's rate, to be used within a second.
    ///
    /// # Errors
    ///
    /// The slice may be lost: the rate is then a little lower for a second.
    pub async fn take_rate(&self, appid: &str, want: i32, workers: i32) -> Result<i32, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/take_rate.sql"))
            .bind(appid)
            .bind(want)
            .bind(workers);
        self.run("take_rate", query.fetch_one(&self.leasing)).await
    }

    /// Registers a start of a worker and returns its epoch.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn enlist(&self, name: &str, appids: &[String]) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/enlist.sql"))
            .bind(name)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(appids);
        self.run("enlist", query.fetch_one(&self.pool)).await
    }

    /// Says that the worker lives. Returns how many workers do.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn heartbeat(
        &self,
        name: &str,
        epoch: i64,
        in_flight: i32,
        appids: &[String],
    ) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/heartbeat.sql"))
            .bind(name)
            .bind(epoch)
            .bind(in_flight)
            .bind(appids);
        self.run("heartbeat", query.fetch_one(&self.pool)).await
    }

    /// Records an orderly stop.
    ///
    /// # Errors
    ///
    /// The worker then looks as if it had died.
    pub async fn retire(&self, name: &str, epoch: i64) -> Result<(), StoreError> {
        let query = sqlx::query(include_str!("../../sql/retire.sql"))
            .bind(name)
            .bind(epoch);
        self.run("retire", query.execute(&self.pool))
            .await
            .map(drop)
    }

    /// Asks to be woken by the next INSERT of the next seconds, and returns the fence: until the oldest running transaction is at or past it,
    /// keep polling.
    ///
    /// # Errors
    ///
    /// Keep polling.
    pub async fn arm_bell(&self) -> Result<i64, StoreError> {
        let arm = sqlx::query(include_str!("../../sql/arm_bell.sql"));
        self.run("arm_bell", arm.execute(&self.leasing)).await?;
        let fence = sqlx::query_scalar(include_str!("../../sql/bell_fence.sql"));
        self.run("bell_fence", fence.fetch_one(&self.leasing)).await
    }

    /// Whether the bell is armed still, and the oldest running transaction. What is about to run out is prolonged: a sleeper
    /// asks every few seconds, or the bell falls silent.
    ///
    /// # Errors
    ///
    /// Keep polling.
    pub async fn bell_state(&self) -> Result<(bool, i64), StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/bell_state.sql"));
        let state = self.run("bell_state", query.fetch_one(&self.leasing));
        let (_, _, is_armed, oldest): (Option<i64>, String, bool, i64) = state.await?;
        Ok((is_armed, oldest))
    }

    /// Says that this worker is awake.
    ///
    /// # Errors
    ///
    /// INSERTs go on ringing, which costs them a little.
    pub async fn disarm_bell(&self) -> Result<(), StoreError> {
        let query = sqlx::query(include_str!("../../sql/disarm_bell.sql"));
        self.run("disarm_bell", query.execute(&self.leasing))
            .await
            .map(drop)
    }

    /// The registered mini-programs among `appids`.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn list_sending_apps(
        &self,
        appids: &[String],
    ) -> Result<Vec<SendingApp>, StoreError> {
        let query =
            sqlx::query_as::<_, (String, bool)>(include_str!("../../sql/list_sending_apps.sql"))
                .bind(appids);
        let rows = self
            .run("list_sending_apps", query.fetch_all(&self.pool))
            .await?;
        Ok(rows
            .into_iter()
            .map(|(appid, has_rate)| SendingApp { appid, has_rate })
            .collect())
    }

    /// Mini-programs that have rows but are not registered.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn list_unregistered_apps(&self) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/list_unregistered_apps.sql"));
        self.run("list_unregistered_apps", query.fetch_all(&self.pool))
            .await
    }

    /// Makes the monthly partitions ahead. Returns how many were made.
    ///
    /// # Errors
    ///
    /// Call it again later: they are made three months ahead.
    pub async fn make_partitions(&self) -> Result<i32, StoreError> {
        let query = sqlx::query_scalar(include_str!("../../sql/make_partitions.sql"));
        self.run("make_partitions", query.fetch_one(&self.pool))
            .await
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
            let query = sqlx::query_scalar::<_, Option<String>>(include_str!(
                "../../sql/drop_old_partition.sql"
            ))
            .bind(keep_months);
            match self
                .run("drop_old_partition", query.fetch_one(&self.pool))
                .await?
            {
                Some(partition) => dropped.push(partition),
                None => break,
            }
        }
        let keys = sqlx::query(include_str!("../../sql/drop_old_keys.sql")).bind(keep_months);
        self.run("drop_old_keys", keys.execute(&self.pool)).await?;
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
        let query = sqlx::query(include_str!("../../sql/migrate/read_books.sql"));
        match self
            .run("read_books", query.fetch_optional(&self.pool))
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
        let query = sqlx::query_scalar(include_str!("../../sql/server_identity.sql"));
        self.run("server_identity", query.fetch_one(&self.leasing))
            .await
    }

    /// What a commit waits for.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn durability(&self) -> Result<Durability, StoreError> {
        let query = sqlx::query_as(include_str!("../../sql/durability.sql"));
        self.run("durability", query.fetch_one(&self.pool)).await
    }

    /// What the gauges show; counts stop at 10,000.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn backlog_gauges(&self) -> Result<QueueWeight, StoreError> {
        let query =
            sqlx::query_as::<_, (i64, i64, i64, f64)>(include_str!("../../sql/backlog_gauges.sql"));
        let (due, doubt, paused, age) = self
            .run("backlog_gauges", query.fetch_one(&self.pool))
            .await?;
        Ok(QueueWeight {
            due_rows: due.unsigned_abs(),
            oldest_due_age: Duration::from_secs_f64(age.max(0.0)),
            rows_in_doubt: doubt.unsigned_abs(),
            paused_apps: paused.unsigned_abs(),
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
