//! Settling: a batch's outcomes are written many at a time, again and again until the database has them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, error, warn};

use super::sending::Batch;
use super::{Worker, lock};
use crate::notification::{Outcome, Verdict};
use crate::retry::Reconnect;
use crate::store::{Settled, StoreError};
use crate::telemetry;

/// Outcomes wait at most this long for others of their batch.
const GATHER: Duration = Duration::from_millis(100);
/// A row that somebody else holds is settled again after this long.
const KEPT_BACK_WAIT: Duration = Duration::from_millis(100);

/// Writes a batch's outcomes until all are written, and keeps its lease alive meanwhile.
pub(super) async fn settle_batch(worker: Arc<Worker>, batch: Arc<Batch>) {
    while !gather_and_settle(&worker, &batch).await {}
    lock(&worker.known).remove(&batch.key.lease_id);
    worker
        .tally
        .batches
        .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    worker.tally.changed.notify_one();
}

/// Waits for outcomes and settles a heap of them. True: the batch is done.
async fn gather_and_settle(worker: &Worker, batch: &Batch) -> bool {
    // Outcomes only come while sends hold the lease, which takes renewals when they are slow.
    let renewal = worker.options.lease / 3;
    if tokio::time::timeout(renewal, batch.arrived.notified())
        .await
        .is_err()
    {
        renew(worker, batch).await;
        return false;
    }
    if lock(&batch.collected).out > 0 {
        let _ = tokio::time::timeout(GATHER, batch.arrived.notified()).await;
    }
    let (outcomes, close) = {
        let mut collected = lock(&batch.collected);
        (std::mem::take(&mut collected.outcomes), collected.out == 0)
    };
    if !outcomes.is_empty() || close {
        settle_persistently(worker, batch, outcomes, close).await;
    }
    close
}

async fn renew(worker: &Worker, batch: &Batch) {
    let asked_at = Instant::now();
    match worker.store.start(&batch.key, worker.options.lease).await {
        Ok(Some(_)) => batch.renewed(asked_at, worker.options.lease),
        // Its unsent rows are released when their slot sees that the lease has lapsed.
        Ok(None) => telemetry::record_fenced("start"),
        Err(error) => warn!("A lease was not renewed: {error}"),
    }
}

/// Settles until everything is written: while the database is away the outcomes are kept here. After the drain's
/// deadline one more try is made.
async fn settle_persistently(
    worker: &Worker,
    batch: &Batch,
    mut outcomes: Vec<Outcome>,
    close: bool,
) {
    let mut waits = Reconnect::new();
    loop {
        let permit = worker.settle_permits.acquire().await;
        let last_try = worker.abort.is_cancelled();
        let settled = worker
            .store
            .settle(&batch.key, &outcomes, close, worker.options.doubt)
            .await;
        drop(permit);
        let wait = match settled {
            Ok(Settled::KeptBack(ids)) if ids.is_empty() => {
                worker.health.database_ok();
                return;
            }
            Ok(Settled::KeptBack(ids)) => {
                debug!(
                    rows = ids.len(),
                    "Rows held by another transaction are settled again"
                );
                outcomes.retain(|outcome| ids.contains(&outcome.notification_id));
                if batch.holds_for() < worker.options.lease / 2 {
                    renew(worker, batch).await;
                }
                KEPT_BACK_WAIT
            }
            Ok(Settled::Fenced) => {
                offer_late_replies(worker, batch, &outcomes).await;
                return;
            }
            Err(error) if error.is_data_error() => {
                settle_apart(worker, batch, outcomes, close, &error).await;
                return;
            }
            Err(error) => {
                worker.health.database_failed(error.to_string());
                warn!("Outcomes are not written yet: {error}");
                waits.next_wait()
            }
        };
        if last_try {
            warn!(
                rows = outcomes.len(),
                "Outcomes were not written before the stop: the rows will be in doubt"
            );
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = worker.abort.cancelled() => {}
        }
    }
}

/// One bad outcome must not poison the others: they are settled in halves, and a single one that is refused is settled
/// without its texts. What even then is refused stays with the lease and ends in doubt.
async fn settle_apart(
    worker: &Worker,
    batch: &Batch,
    mut outcomes: Vec<Outcome>,
    close: bool,
    error: &StoreError,
) {
    if outcomes.len() > 1 {
        let second = outcomes.split_off(outcomes.len() / 2);
        Box::pin(settle_persistently(worker, batch, outcomes, false)).await;
        Box::pin(settle_persistently(worker, batch, second, close)).await;
        return;
    }
    let Some(mut outcome) = outcomes.pop() else {
        return;
    };
    let id = outcome.notification_id;
    error!(
        notification.id = id,
        "The database refused the outcome of notification {id}: {error}"
    );
    if outcome.errmsg.is_none()
        && outcome.rid.is_none()
        && outcome.reason.as_deref() == Some(REFUSED)
    {
        return;
    }
    outcome.errmsg = None;
    outcome.rid = None;
    outcome.reason = Some(REFUSED.to_owned());
    Box::pin(settle_persistently(worker, batch, vec![outcome], close)).await;
}

/// What stands in for texts the database refused.
const REFUSED: &str = "the database refused the texts of this outcome";

/// The lease is gone: another worker took it over, or this was the repeat of a settle whose answer was lost. Definite
/// replies are evidence either way.
async fn offer_late_replies(worker: &Worker, batch: &Batch, outcomes: &[Outcome]) {
    telemetry::record_fenced("settle");
    for outcome in outcomes {
        let definite = match outcome.verdict {
            Verdict::Sent => true,
            Verdict::Dead { .. } | Verdict::Retry { .. } | Verdict::Park { .. } => {
                outcome.errcode.is_some()
            }
            Verdict::Expired | Verdict::InDoubt | Verdict::Release => false,
        };
        if !definite {
            continue;
        }
        if let Err(error) = worker
            .store
            .offer_late_reply(&batch.key, batch.started_at, outcome)
            .await
        {
            warn!(
                notification.id = outcome.notification_id,
                "A late reply was not recorded: {error}"
            );
        }
    }
}
