//! The slots: tasks that send one row after the other, the started rows they take, and how many of them may.
//!
//! There are as many slots as the concurrency allows at most. Slot number n works while the limit is above n; in the mode
//! `adaptive` the limit follows what WeChat takes ([`AdaptiveLimit`]).

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Notify, Semaphore};

use super::lock;
use super::sending::Work;
use crate::concurrency::{AdaptiveLimit, Sample};
use crate::config::ConcurrencyMode;
use crate::telemetry;

/// What slots share.
pub(super) struct Slots {
    /// Started rows, in order.
    rows: Mutex<VecDeque<Work>>,
    /// One permit a row. Closed: no more will come.
    available: Semaphore,
    /// Rung when so few rows are left that the next batch may be started.
    few_left: Notify,
    limit: AtomicUsize,
    adaptive: Option<Mutex<AdaptiveLimit>>,
    /// Rung when the limit has changed, and at the end.
    limit_changed: Notify,
    is_closed: AtomicBool,
}

impl Slots {
    /// At most `max` sends at once; `min` at least, when the limit adapts.
    pub(super) fn new(mode: ConcurrencyMode, min: usize, max: usize) -> Self {
        let adaptive = match mode {
            ConcurrencyMode::Fixed => None,
            ConcurrencyMode::Adaptive => {
                Some(AdaptiveLimit::new(min.min(max), max, Instant::now()))
            }
        };
        let limit = adaptive.as_ref().map_or(max, AdaptiveLimit::limit);
        telemetry::record_concurrency_limit(limit);
        Self {
            rows: Mutex::default(),
            available: Semaphore::new(0),
            few_left: Notify::new(),
            limit: AtomicUsize::new(limit),
            adaptive: adaptive.map(Mutex::new),
            limit_changed: Notify::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// How many sends may be in flight now.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Lets the limit follow a send that ended.
    pub(super) fn observe(&self, sample: Sample) {
        let Some(adaptive) = &self.adaptive else {
            return;
        };
        let limit = lock(adaptive).observe(sample, Instant::now());
        if self.limit.swap(limit, Ordering::Relaxed) != limit {
            telemetry::record_concurrency_limit(limit);
            self.limit_changed.notify_waiters();
            self.few_left.notify_one();
        }
    }

    /// Waits until no more rows than the slots can take at once are left.
    pub(super) async fn until_few_left(&self) {
        while lock(&self.rows).len() > self.limit() {
            self.few_left.notified().await;
        }
    }

    /// Adds started rows.
    pub(super) fn add(&self, rows: impl IntoIterator<Item = Work>) {
        let mut queue = lock(&self.rows);
        let before = queue.len();
        queue.extend(rows);
        let added = queue.len() - before;
        drop(queue);
        self.available.add_permits(added);
    }

    /// No more rows will come: slots end when those that are left are done.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.available.close();
        self.limit_changed.notify_waiters();
    }

    /// The next row for a slot. `None`: there will be none.
    pub(super) async fn next(&self, slot: usize) -> Option<Work> {
        loop {
            self.until_within_limit(slot).await;
            match self.available.acquire().await {
                // The limit fell while the slot waited: the permit goes back.
                Ok(_) if slot >= self.limit() => {}
                Ok(permit) => {
                    permit.forget();
                    break;
                }
                Err(_closed) => break,
            }
        }
        let mut queue = lock(&self.rows);
        let work = queue.pop_front();
        if queue.len() == self.limit() {
            self.few_left.notify_one();
        }
        work
    }

    async fn until_within_limit(&self, slot: usize) {
        let may_go_on = || slot < self.limit() || self.is_closed.load(Ordering::Acquire);
        while !may_go_on() {
            let changed = self.limit_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !may_go_on() {
                changed.await;
            }
        }
    }
}
