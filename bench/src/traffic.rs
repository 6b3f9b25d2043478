//! What rows that come, or may be sent, one by one cost and how late they are: CPU and log beyond an idle worker's, moments of
//! arrival at the fake, the most of them in any second.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::machine;
use crate::report::percentile;
use crate::stage::{Arrival, Stage};

/// CPU time and log up to a moment.
pub struct Accounts {
    read_at: Instant,
    database: Duration,
    workers: Duration,
    wal_bytes: u64,
}

/// CPU, in microseconds, and log of a stretch of time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub secs: f64,
    pub database_us: f64,
    pub workers_us: f64,
    pub wal_bytes: f64,
}

impl Accounts {
    pub async fn read(stage: &Stage, workers: &[u32]) -> anyhow::Result<Self> {
        Ok(Self {
            wal_bytes: stage.wal_bytes().await?,
            database: stage.cpu(),
            workers: workers.iter().map(|pid| machine::cpu_of(*pid)).sum(),
            read_at: Instant::now(),
        })
    }

    /// What was spent since.
    pub async fn spent(&self, stage: &Stage, workers: &[u32]) -> anyhow::Result<Spent> {
        let now = Self::read(stage, workers).await?;
        let microseconds =
            |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() * 1e6;
        Ok(Spent {
            secs: (now.read_at - self.read_at).as_secs_f64(),
            database_us: microseconds(now.database, self.database),
            workers_us: microseconds(now.workers, self.workers),
            wal_bytes: (now.wal_bytes - self.wal_bytes) as f64,
        })
    }
}

/// What passes in `span`.
pub async fn spend(stage: &Stage, workers: &[u32], span: Duration) -> anyhow::Result<Spent> {
    let before = Accounts::read(stage, workers).await?;
    tokio::time::sleep(span).await;
    before.spent(stage, workers).await
}

impl Spent {
    /// What is left without what idling for as long would have cost.
    pub fn beyond(&self, idle: &Self) -> Self {
        let share = self.secs / idle.secs.max(f64::MIN_POSITIVE);
        Self {
            secs: self.secs,
            database_us: self.database_us - idle.database_us * share,
            workers_us: self.workers_us - idle.workers_us * share,
            wal_bytes: self.wal_bytes - idle.wal_bytes * share,
        }
    }

    /// Each figure for one of `rows`.
    pub fn each(&self, rows: f64) -> Self {
        Self {
            secs: self.secs / rows,
            database_us: self.database_us / rows,
            workers_us: self.workers_us / rows,
            wal_bytes: self.wal_bytes / rows,
        }
    }

    /// Milliseconds of the database's and the workers' CPU in a second.
    pub fn a_second(&self) -> (f64, f64) {
        (
            self.database_us / 1e3 / self.secs,
            self.workers_us / 1e3 / self.secs,
        )
    }
}

/// Now, in seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// One row a producer has committed.
#[derive(Debug, Clone)]
pub struct Commit {
    pub openid: String,
    /// When the producer knew, in seconds since 1970.
    pub at: f64,
}

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Lateness {
    pub p50: f64,
    pub p99: f64,
    pub most: f64,
}

/// From commit to moment, by receiver; an error unless each row has one. A row may be sent before its producer knows of its
/// commit: that is no lateness.
pub fn lateness(commits: &[Commit], moments: &HashMap<String, f64>) -> anyhow::Result<Lateness> {
    let waits: Vec<f64> = commits
        .iter()
        .filter_map(|commit| Some((moments.get(&commit.openid)? - commit.at).max(0.0) * 1e3))
        .collect();
    anyhow::ensure!(
        waits.len() == commits.len(),
        "{} of {} rows were seen",
        waits.len(),
        commits.len()
    );
    Ok(Lateness {
        p50: percentile(waits.iter().copied(), 0.5),
        p99: percentile(waits.iter().copied(), 0.99),
        most: percentile(waits, 1.0),
    })
}

/// When each receiver's send with this template arrived.
pub fn by_receiver(arrivals: &[Arrival], template_id: &str) -> HashMap<String, f64> {
    arrivals
        .iter()
        .filter(|arrival| arrival.template_id == template_id)
        .map(|arrival| (arrival.openid.clone(), arrival.at))
        .collect()
}

/// The most of some moments, in order, that lie within any `secs`.
pub fn most_within(moments: &[f64], secs: f64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, moment) in moments.iter().enumerate() {
        while moment - moments[first] >= secs {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// A figure with its bar beside it.
pub fn judged(value: f64, bar: f64, decimals: usize) -> String {
    let mark = if value <= bar { "≤" } else { "**over**" };
    format!("{value:.decimals$} ({mark} {bar:.decimals$})")
}

/// A figure that must reach its bar.
pub fn judged_from_below(value: f64, bar: f64, decimals: usize) -> String {
    let mark = if value >= bar { "≥" } else { "**under**" };
    format!("{value:.decimals$} ({mark} {bar:.decimals$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_ends_before_the_moment_a_second_later() {
        assert_eq!(most_within(&[0.0, 0.5, 1.0, 1.4], 1.0), 3);
        assert_eq!(most_within(&[0.0, 1.0, 2.0], 1.0), 1);
        assert_eq!(most_within(&[], 1.0), 0);
    }

    #[test]
    fn a_row_nobody_saw_is_an_error() {
        let commit = Commit {
            openid: "o1".to_owned(),
            at: 5.0,
        };
        assert!(lateness(&[commit], &HashMap::new()).is_err());
    }
}
