//! Sending: a batch is started durably, then its rows go to the slots, one attempt each.
//!
//! Start at [`open_batches`], then [`send_rows`].

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use tokio::sync::mpsc;
use tracing::{Instrument, debug, debug_span, error, warn};

use super::batch::Batch;
use super::{Worker, settling};
use crate::concurrency::Sample;
use crate::lock::lock;
use crate::notification::{Conclusion, Credit, Notification, Outcome, Verdict, WaitingFor};
use crate::reconnect::Reconnect;
use crate::store::{CorruptRow, Lease, LeaseKey, StoreError};
use crate::telemetry::{self, Restraint};
use crate::wechat::errcode;

/// What a send may take beyond the request time-out, in a slow scheduler.
const SEND_MARGIN: Duration = Duration::from_secs(1);
/// Of rows that cannot be sent, however many there are.
static CORRUPT_ROWS: Restraint = Restraint::new(10);

/// One row on its way to a slot.
pub(super) struct Work {
    batch: Arc<Batch>,
    notification: Notification,
}

fn key(worker: &Worker, lease: &Lease) -> LeaseKey {
    LeaseKey {
        appid: lease.appid.clone(),
        lease_id: lease.lease_id,
        worker: worker.id.clone(),
        leased_at: lease.leased_at,
    }
}

/// Starts leased batches one after the other and hands their rows to the slots. While these have enough, the next batches
/// wait unstarted, so that a crash leaves no doubt about them.
pub(super) async fn open_batches(worker: Arc<Worker>, mut leased: mpsc::Receiver<Vec<Lease>>) {
    while let Some(mut leases) = leased.recv().await {
        worker.slots.until_few_left().await;
        start_together(&worker, &mut leases).await;
        for lease in leases {
            open(&worker, lease).await;
        }
    }
    worker.slots.close();
}

async fn open(worker: &Arc<Worker>, mut lease: Lease) {
    worker.slots.until_few_left().await;
    if let Some(batch) = start(worker, &mut lease).await {
        tokio::spawn(settling::settle_batch(worker.clone(), batch.clone()));
        let rows = lease.rows.into_iter();
        worker
            .slots
            .add(rows.filter_map(|row| hand_over(worker, &batch, row)));
    } else {
        let count = lease.rows.len();
        lock(&worker.known).remove(&(lease.lease_id, lease.leased_at));
        worker.tally.waiting.fetch_sub(count, Ordering::Relaxed);
        worker.tally.unsettled.fetch_sub(count, Ordering::Relaxed);
        worker.tally.batches.fetch_sub(1, Ordering::Relaxed);
        worker.tally.changed.notify_one();
    }
}

/// Starts small leases that came together with one commit. One that is gone, or had no clear answer, is asked for by itself.
async fn start_together(worker: &Worker, leases: &mut [Lease]) {
    let is_open = |lease: &Lease| lease.started_at.is_none() && !worker.is_paused(&lease.appid);
    let keys: Vec<LeaseKey> = leases
        .iter()
        .filter(|lease| is_open(lease))
        .map(|lease| key(worker, lease))
        .collect();
    if keys.len() < 2 || worker.stop.is_cancelled() {
        return;
    }
    match worker.store.start(&keys, worker.options.lease).await {
        Ok(started) => {
            let started: HashMap<i64, DateTime<Utc>> = started.into_iter().collect();
            for lease in leases {
                lease.started_at = lease
                    .started_at
                    .or_else(|| started.get(&lease.lease_id).copied());
            }
        }
        Err(error) => debug!("Leases are started one by one: {error}"),
    }
}

/// One row for the slots; a row that this version cannot send is dead-lettered with the reason.
fn hand_over(
    worker: &Worker,
    batch: &Arc<Batch>,
    row: Result<Notification, CorruptRow>,
) -> Option<Work> {
    let corrupt = match row {
        Ok(notification) => {
            return Some(Work {
                batch: batch.clone(),
                notification,
            });
        }
        Err(corrupt) => corrupt,
    };
    if let Some(left_out) = CORRUPT_ROWS.admit() {
        error!(
            notification.id = corrupt.id,
            left_out, "Notification {} cannot be sent: {}", corrupt.id, corrupt.reason
        );
    }
    let verdict = Verdict::Dead {
        credit: Credit::Kept,
    };
    worker.tally.waiting.fetch_sub(1, Ordering::Relaxed);
    worker.tally.changed.notify_one();
    batch.record(Outcome::unsent(corrupt.id, verdict, Some(corrupt.reason)));
    None
}

fn opened(worker: &Worker, lease: &Lease, started_at: DateTime<Utc>, asked_at: Instant) -> Batch {
    let key = key(worker, lease);
    Batch::new(key, lease, started_at, asked_at, worker.options.lease)
}

/// The durable record before the first send. `None`: the lease is gone or given back, nothing of it may be sent.
async fn start(worker: &Worker, lease: &mut Lease) -> Option<Arc<Batch>> {
    // One that was started at once but had to wait for others may be somebody else's by now: ask.
    if let Some(started_at) = lease.started_at
        && lease.asked_at.elapsed() < worker.options.lease / 4
    {
        return Some(Arc::new(opened(worker, lease, started_at, lease.asked_at)));
    }
    let key = key(worker, lease);
    if lease.started_at.is_none() && (worker.stop.is_cancelled() || worker.is_paused(&lease.appid))
    {
        if let Err(error) = worker.store.release(&key).await {
            debug!("A lease was not given back and will lapse: {error}");
        }
        return None;
    }
    let mut waits = Reconnect::new();
    loop {
        let asked_at = Instant::now();
        let error = match ask_to_start(worker, &key, lease).await {
            Ok(Some(started_at)) if lease.rows.is_empty() => {
                debug!("Nothing of a lease of reminders may be sent now, at {started_at}");
                return None;
            }
            Ok(Some(started_at)) => {
                return Some(Arc::new(opened(worker, lease, started_at, asked_at)));
            }
            Ok(None) => {
                telemetry::record_fenced("start");
                warn!(
                    "Lease {} of {} was gone before its start: nothing of it is sent",
                    lease.lease_id, lease.appid
                );
                return None;
            }
            Err(error) => error,
        };
        worker.health.database_failed(error.to_string());
        // It may have been started all the same. Left so, it would lapse into doubts about rows that were never sent.
        let wait = waits.next_wait();
        if worker.stop.is_cancelled() || lease.asked_at.elapsed() + wait > worker.options.lease {
            warn!("A lease was not started and will lapse: {error}");
            return None;
        }
        debug!("A lease's start is asked for again: {error}");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = worker.stop.cancelled() => {}
        }
    }
}

/// When the lease was started; `None`: it is gone. Rows of reminders that may not be sent now leave it.
async fn ask_to_start(
    worker: &Worker,
    key: &LeaseKey,
    lease: &mut Lease,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    let length = worker.options.lease;
    let only = std::slice::from_ref(key);
    if let Some((_, started_at)) = worker.store.start(only, length).await?.pop() {
        return Ok(Some(started_at));
    }
    let Some(started) = worker.store.start_reminders(key, length).await? else {
        return Ok(None);
    };
    let count = lease.rows.len();
    lease.rows.retain(|row| {
        let id = row.as_ref().map_or_else(|corrupt| corrupt.id, |row| row.id);
        started.ids.contains(&id)
    });
    let left = count - lease.rows.len();
    worker.tally.waiting.fetch_sub(left, Ordering::Relaxed);
    worker.tally.unsettled.fetch_sub(left, Ordering::Relaxed);
    worker.tally.changed.notify_one();
    Ok(Some(started.started_at))
}

/// One slot: sends one row after the other until there are no more.
pub(super) async fn send_rows(worker: Arc<Worker>, slot: usize) {
    while let Some(Work {
        batch,
        notification,
    }) = worker.slots.next(slot).await
    {
        let waiting = worker.tally.waiting.fetch_sub(1, Ordering::Relaxed);
        if waiting == worker.tally.ahead.load(Ordering::Relaxed) {
            worker.tally.changed.notify_one();
        }
        let in_flight = worker.tally.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        worker.tally.begun.fetch_add(1, Ordering::Relaxed);
        let attempt = attempt(&worker, &batch, &notification);
        let Conclusion { outcome, effects } = unless_it_panics(notification.id, attempt).await;
        worker.tally.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(sample) = sample_of(&outcome, in_flight) {
            worker.slots.observe(sample);
        }
        // First: what is known must not wait for a pause to be stored.
        batch.record(outcome);
        worker.apply(effects).await;
    }
}

/// One attempt at one row, if it may still be sent at this moment.
async fn attempt(worker: &Worker, batch: &Batch, notification: &Notification) -> Conclusion {
    let id = notification.id;
    let (appid, template) = (&notification.appid, &notification.template_id);
    if let Some(after) = worker.template_rests_for(appid, template) {
        let waiting_for = WaitingFor::Template;
        let reason = "its template was paused after it was leased".to_owned();
        return Outcome::unsent(id, Verdict::Park { waiting_for, after }, Some(reason)).into();
    }
    let send_before = match last_moment(worker, batch, notification) {
        Ok(send_before) => send_before,
        Err(verdict) => return Outcome::unsent(id, verdict, None).into(),
    };
    let span = debug_span!(
        "deliver",
        notification.id = id,
        notification.attempt = notification.attempts + 1,
        wechat.appid = %notification.appid,
    );
    let lateness = batch.database_now() - notification.waiting_since;
    let _in_flight = batch.metrics.begin(lateness.to_std().unwrap_or_default());
    let began = Instant::now();
    let delivery = worker.deliverer.deliver(notification, send_before);
    let conclusion = tokio::select! {
        biased;
        delivered = delivery.instrument(span) => delivered,
        () = worker.abort.cancelled() => {
            let reason = "the worker was stopped before WeChat answered";
            Outcome::unsent(id, Verdict::InDoubt, Some(reason.to_owned())).into()
        }
    };
    batch
        .metrics
        .end(label(&conclusion.outcome), began.elapsed());
    conclusion
}

/// Until when a request for the row may leave, or why it must not leave at all.
fn last_moment(
    worker: &Worker,
    batch: &Batch,
    notification: &Notification,
) -> Result<Instant, Verdict> {
    if worker.stop.is_cancelled() || worker.is_paused(&notification.appid) {
        return Err(Verdict::Release);
    }
    let Some(spare) = batch
        .holds_for()
        .checked_sub(worker.options.request_timeout + SEND_MARGIN)
    else {
        return Err(Verdict::Release);
    };
    let mut spare = spare;
    if let Some(expire_at) = notification.expire_at {
        let Ok(left) = (expire_at - batch.database_now()).to_std() else {
            return Err(Verdict::Expired);
        };
        spare = spare.min(left);
    }
    Ok(Instant::now() + spare)
}

/// The attempt's result. A panic of ours in it costs this row alone, not its slot.
async fn unless_it_panics(id: i64, attempt: impl Future<Output = Conclusion>) -> Conclusion {
    let attempted = AssertUnwindSafe(attempt).catch_unwind().await;
    attempted.unwrap_or_else(|_| panicked(id).into())
}

/// A row that makes our own code panic would do so again: it ends, the worker goes on.
fn panicked(id: i64) -> Outcome {
    error!(
        notification.id = id,
        "Sending notification {id} panicked; it is dead-lettered"
    );
    let reason = "wxnotify panicked while sending this row; it may or may not have been sent";
    Outcome::unsent(
        id,
        Verdict::Dead {
            credit: Credit::Unknown,
        },
        Some(reason.to_owned()),
    )
}

/// What an attempt tells of WeChat's capacity. Nothing, if no request was made or no connection was had.
fn sample_of(outcome: &Outcome, in_flight: usize) -> Option<Sample> {
    const REFUSALS: [i64; 2] = [errcode::SYSTEM_BUSY, errcode::CALLED_TOO_OFTEN];
    let latency = Duration::from_millis(u64::try_from(outcome.response_ms?).ok()?);
    let refused = match outcome.errcode {
        Some(errcode) => REFUSALS.contains(&errcode),
        None if outcome.verdict == Verdict::InDoubt => true,
        None => return None,
    };
    Some(Sample {
        latency,
        refused,
        in_flight,
    })
}

fn label(outcome: &Outcome) -> &'static str {
    match outcome.verdict {
        Verdict::Sent => "sent",
        Verdict::Dead { .. } => "dead",
        Verdict::Expired => "expired",
        Verdict::Retry { .. } => "retry",
        Verdict::Park { .. } => "park",
        Verdict::InDoubt => "doubt",
        Verdict::Release => "release",
        Verdict::Found => "found",
        Verdict::NotFound => "not_found",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn attempted(row: Option<i64>) -> Conclusion {
        tokio::task::yield_now().await;
        let id = row.expect("the panic under test");
        Outcome::unsent(id, Verdict::Sent, None).into()
    }

    #[tokio::test]
    async fn a_panic_dead_letters_its_own_row_and_says_why() {
        let Conclusion { outcome, effects } = unless_it_panics(7, attempted(None)).await;
        let credit = Credit::Unknown;
        assert_eq!(outcome.notification_id, 7);
        assert_eq!(outcome.verdict, Verdict::Dead { credit });
        assert!(outcome.reason.unwrap().contains("panicked"));
        assert_eq!(effects, []);
    }

    #[tokio::test]
    async fn what_does_not_panic_passes_unchanged() {
        let Conclusion { outcome, .. } = unless_it_panics(7, attempted(Some(8))).await;
        let settled = (outcome.notification_id, outcome.verdict);
        assert_eq!(settled, (8, Verdict::Sent));
    }
}
