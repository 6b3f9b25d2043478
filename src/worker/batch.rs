//! A leased batch on its way: what its slots and its settler share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use crate::lock::lock;
use crate::notification::Outcome;
use crate::store::{Lease, LeaseKey};
use crate::telemetry::SendMetrics;

/// Wall and monotonic clocks may differ this much before a lease is given up: more means the machine slept or its clock was
/// set, and the lease may be somebody else's by now.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// A leased batch on its way: shared by its slots and its settler.
pub(super) struct Batch {
    pub(super) key: LeaseKey,
    /// The durable record of the start.
    pub(super) started_at: DateTime<Utc>,
    /// What the outcomes so far are, and how many rows are still out.
    pub(super) collected: Mutex<Collected>,
    /// Rung at the first outcome of a new heap and when none is out any more.
    pub(super) arrived: Notify,
    pub(super) metrics: SendMetrics,
    /// Both clocks when the lease was asked for, and the database's.
    asked_at: Instant,
    asked_wall: SystemTime,
    /// Milliseconds after `asked_at` at which the lease lapses.
    lapses_after_ms: AtomicI64,
}

/// Outcomes waiting for their settle.
pub(super) struct Collected {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) out: usize,
}

impl Batch {
    /// A batch whose lease of `length` was asked for, or started, at `asked_at`.
    pub(super) fn new(
        key: LeaseKey,
        lease: &Lease,
        started_at: DateTime<Utc>,
        asked_at: Instant,
        length: Duration,
    ) -> Self {
        let batch = Self {
            key,
            started_at,
            collected: Mutex::new(Collected {
                outcomes: Vec::with_capacity(lease.rows.len()),
                out: lease.rows.len(),
            }),
            arrived: Notify::new(),
            metrics: SendMetrics::of(&lease.appid),
            asked_at: lease.asked_at,
            asked_wall: SystemTime::now() - lease.asked_at.elapsed(),
            lapses_after_ms: AtomicI64::new(0),
        };
        batch.renewed(asked_at, length);
        batch
    }

    /// The lease was started or renewed by a request that left at `asked_at`.
    pub(super) fn renewed(&self, asked_at: Instant, length: Duration) {
        let lapses = asked_at.saturating_duration_since(self.asked_at) + length;
        let lapses = i64::try_from(lapses.as_millis()).unwrap_or(i64::MAX);
        self.lapses_after_ms.store(lapses, Ordering::Relaxed);
    }

    /// The lease is somebody else's: nothing more of it may be sent.
    pub(super) fn lost(&self) {
        self.lapses_after_ms.store(0, Ordering::Relaxed);
    }

    /// Whether the lease is known to be somebody else's.
    pub(super) fn is_lost(&self) -> bool {
        self.lapses_after_ms.load(Ordering::Relaxed) == 0
    }

    /// How long the lease still holds, by this process's clock; zero when the clocks disagree.
    pub(super) fn holds_for(&self) -> Duration {
        let elapsed = self.asked_at.elapsed();
        let wall = self.asked_wall.elapsed().unwrap_or_default();
        if wall.abs_diff(elapsed) > CLOCK_SLACK {
            return Duration::ZERO;
        }
        let lapses = u64::try_from(self.lapses_after_ms.load(Ordering::Relaxed)).unwrap_or(0);
        Duration::from_millis(lapses).saturating_sub(elapsed)
    }

    /// The database's clock, at the latest: counted from when the lease was asked for.
    pub(super) fn database_now(&self) -> DateTime<Utc> {
        self.key.leased_at + self.asked_at.elapsed()
    }

    /// Adds the outcome of one of its rows.
    pub(super) fn record(&self, outcome: Outcome) {
        let ring = {
            let mut collected = lock(&self.collected);
            collected.outcomes.push(outcome);
            collected.out -= 1;
            collected.out == 0 || collected.outcomes.len() == 1
        };
        if ring {
            self.arrived.notify_one();
        }
    }
}
