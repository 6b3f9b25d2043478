//! Settling: a batch's outcomes are written many at a time, again and again until the database has them.
//!
//! Start at [`settle_batch`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, error, warn};

use super::Worker;
use super::batch::Batch;
use crate::lock::lock;
use crate::notification::{Outcome, Verdict};
use crate::reconnect::Reconnect;
use crate::store::{LeaseKey, SettleRequest, Settled, StoreError};
use crate::telemetry::{self, Restraint};

/// Outcomes wait at most this long for others of their batch.
const GATHER: Duration = Duration::from_millis(100);
/// A row that somebody else holds is settled again after this long.
const KEPT_BACK_WAIT: Duration = Duration::from_millis(100);

/// How often is looked for leases to renew, at least and at most.
const RENEW_PACE_MIN: Duration = Duration::from_millis(50);
const RENEW_PACE_MAX: Duration = Duration::from_secs(1);
/// At most so many leases are renewed in a statement.
const RENEW_TOGETHER_MAX: usize = 256;
/// A lease holds longer than a settle may take by this much.
const SETTLE_MARGIN: Duration = Duration::from_secs(3);

/// Settles of fewer rows than this share a statement and its commit with others that wait: with many mini-programs, batches
/// are small and many.
const SMALL_ROWS: usize = 64;
/// At most so many settles share a statement.
const TOGETHER_MAX: usize = 64;
/// Of outcomes that the database refuses, however many there are.
static REFUSED_OUTCOMES: Restraint = Restraint::new(10);

/// Small settles: while one statement is under way those that come meanwhile wait, and the next takes them all.
#[derive(Debug, Default)]
pub(super) struct SmallSettles {
    waiting: Mutex<Vec<SmallSettle>>,
    turn: tokio::sync::Mutex<()>,
}

/// One of them, and where its answer goes.
#[derive(Debug)]
struct SmallSettle {
    request: SettleRequest,
    answer: oneshot::Sender<Result<Settled, Arc<StoreError>>>,
}

/// What became of a heap of outcomes.
enum Heap {
    /// Written, or offered as evidence when the lease was gone.
    Written,
    /// These rows are held by somebody else: settle them again.
    KeptBack(Vec<Outcome>),
    /// Not written: their lease must lapse, so that their rows become doubts.
    Lost,
}

/// How outcomes are settled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Few of them in one statement with others.
    Plainly,
    /// By themselves, and so that a row which the database refuses to move costs only itself.
    Carefully,
}

/// Writes a batch's outcomes until all are written; its lease is kept alive meanwhile.
pub(super) async fn settle_batch(worker: Arc<Worker>, batch: Arc<Batch>) {
    let name = (batch.key.lease_id, batch.key.leased_at);
    lock(&worker.unsettled).insert(name, batch.clone());
    let mut is_lost = false;
    let mut again = false;
    loop {
        let (outcomes, close) = gather(&worker, &batch, again).await;
        again = false;
        let count = outcomes.len();
        let kept_back =
            match settle_persistently(&worker, &batch, outcomes, close, Manner::Plainly).await {
                Heap::Written => 0,
                Heap::KeptBack(outcomes) => {
                    let kept_back = outcomes.len();
                    lock(&batch.collected).outcomes.extend(outcomes);
                    again = true;
                    kept_back
                }
                Heap::Lost => {
                    is_lost = true;
                    0
                }
            };
        worker
            .tally
            .unsettled
            .fetch_sub(count - kept_back, Ordering::Relaxed);
        worker.tally.changed.notify_one();
        record_disputes(&worker).await;
        if close && !again {
            break;
        }
    }
    lock(&worker.unsettled).remove(&name);
    // A lease we no longer know of is given up as never sent: that must not happen to one whose outcomes were lost.
    if !is_lost {
        lock(&worker.known).remove(&name);
    }
    worker.tally.batches.fetch_sub(1, Ordering::Relaxed);
    worker.tally.changed.notify_one();
}

/// Waits for outcomes, or for a while when some are to be settled `again`. True: no more will come.
async fn gather(worker: &Worker, batch: &Batch, again: bool) -> (Vec<Outcome>, bool) {
    if again {
        tokio::time::sleep(KEPT_BACK_WAIT).await;
    } else {
        batch.arrived.notified().await;
        if lock(&batch.collected).out > 0 {
            let _ = tokio::time::timeout(GATHER, batch.arrived.notified()).await;
        }
    }
    let (mut outcomes, close) = {
        let mut collected = lock(&batch.collected);
        (std::mem::take(&mut collected.outcomes), collected.out == 0)
    };
    for outcome in &mut outcomes {
        worker.deliverer.question(outcome);
    }
    (outcomes, close)
}

/// Says of rows that are settled that another had their answer, too. Who settled one that was still on its way comes by here
/// after that.
async fn record_disputes(worker: &Worker) {
    let disputes = {
        let mut open = lock(&worker.disputes);
        open.extend(worker.deliverer.take_disputes());
        std::mem::take(&mut *open)
    };
    for dispute in disputes {
        match worker.store.record_dispute(&dispute, &worker.id).await {
            Ok(true) => {}
            Ok(false) => lock(&worker.disputes).push(dispute),
            Err(error) => {
                warn!("A disputed answer is not recorded yet: {error}");
                lock(&worker.disputes).push(dispute);
            }
        }
    }
}

/// Renews the leases of batches whose replies are awaited or wait to be written, until it is aborted: what a live worker knows, or
/// will know, is not to be doubted by others, whatever keeps a settle from its end.
pub(super) async fn keep_leases(worker: Arc<Worker>) {
    let length = worker.options.lease;
    let pace = (length / 16).clamp(RENEW_PACE_MIN, RENEW_PACE_MAX);
    // A settle may hold the row of its lease, which nobody can renew then, for as long as the server lets a statement run.
    let spare = (worker.store.deadline() + SETTLE_MARGIN).min(length * 7 / 8);
    let spare = spare.max(length * 2 / 3);
    loop {
        tokio::time::sleep(pace).await;
        let batches: Vec<Arc<Batch>> = lock(&worker.unsettled)
            .values()
            .filter(|batch| !batch.is_lost() && batch.holds_for() < spare)
            .cloned()
            .collect();
        for batches in batches.chunks(RENEW_TOGETHER_MAX) {
            let keys: Vec<LeaseKey> = batches.iter().map(|batch| batch.key.clone()).collect();
            let asked_at = Instant::now();
            match worker.store.renew(&keys, length).await {
                Ok(renewed) => batches
                    .iter()
                    .filter(|batch| renewed.contains(&batch.key.lease_id))
                    .for_each(|batch| batch.renewed(asked_at, length)),
                Err(error) => warn!("Leases were not renewed: {error}"),
            }
        }
    }
}

/// Settles until the database has the outcomes: while it is away they are kept here. After the drain's deadline one more
/// try is made.
async fn settle_persistently(
    worker: &Worker,
    batch: &Batch,
    outcomes: Vec<Outcome>,
    close: bool,
    mut manner: Manner,
) -> Heap {
    let mut waits = Reconnect::new();
    let outcomes = Arc::new(outcomes);
    loop {
        let last_try = worker.abort.is_cancelled();
        let settled = if manner == Manner::Carefully || outcomes.len() >= SMALL_ROWS {
            settle_alone(worker, batch, &outcomes, close, manner).await
        } else {
            settle_with_others(worker, batch, &outcomes, close).await
        };
        let error = match settled {
            Ok(Settled::KeptBack(ids)) => {
                worker.health.database_ok();
                if ids.is_empty() {
                    return Heap::Written;
                }
                debug!(
                    rows = ids.len(),
                    "Rows held by another transaction are settled again"
                );
                if last_try {
                    return Heap::Lost;
                }
                let mut kept_back = Arc::unwrap_or_clone(outcomes);
                kept_back.retain(|outcome| ids.contains(&outcome.notification_id));
                return Heap::KeptBack(kept_back);
            }
            Ok(Settled::Fenced) => {
                batch.lost();
                offer_late_replies(worker, batch, &outcomes).await;
                return Heap::Written;
            }
            Err(error) if manner == Manner::Plainly && error.is_refusal() => {
                manner = Manner::Carefully;
                continue;
            }
            Err(error) if error.is_data_error() => {
                let outcomes = Arc::unwrap_or_clone(outcomes);
                return settle_apart(worker, batch, outcomes, close, &error).await;
            }
            Err(error) => error,
        };
        if makes_up_for(worker, &error).await {
            continue;
        }
        worker.health.database_failed(error.to_string());
        warn!("Outcomes are not written yet: {error}");
        if last_try {
            warn!(
                rows = outcomes.len(),
                "Outcomes were not written before the stop: the rows will be in doubt"
            );
            return Heap::Lost;
        }
        tokio::select! {
            () = tokio::time::sleep(waits.next_wait()) => {}
            () = worker.abort.cancelled() => {}
        }
    }
}

/// Makes the partition that a settle missed. True: settle again at once.
async fn makes_up_for(worker: &Worker, error: &StoreError) -> bool {
    error.is_missing_partition()
        && worker
            .store
            .make_partitions()
            .await
            .is_ok_and(|made| made > 0)
}

async fn settle_alone(
    worker: &Worker,
    batch: &Batch,
    outcomes: &Arc<Vec<Outcome>>,
    close: bool,
    manner: Manner,
) -> Result<Settled, Arc<StoreError>> {
    let _permit = worker.settle_permits.acquire().await;
    let (store, doubt) = (&worker.store, worker.options.doubt);
    let request = SettleRequest {
        lease: batch.key.clone(),
        outcomes: outcomes.clone(),
        close,
    };
    let settled = match manner {
        Manner::Plainly => store.settle(&[request], doubt).await.map(|settled| {
            let first = settled.into_iter().next();
            first.unwrap_or(Settled::Fenced)
        }),
        Manner::Carefully => store.settle_carefully(&request, doubt).await,
    };
    settled.map_err(Arc::new)
}

/// Waits for the statement under way, then whoever has the turn settles for all who wait.
async fn settle_with_others(
    worker: &Worker,
    batch: &Batch,
    outcomes: &Arc<Vec<Outcome>>,
    close: bool,
) -> Result<Settled, Arc<StoreError>> {
    let small = &worker.small_settles;
    let (answer, mut answered) = oneshot::channel();
    let request = SettleRequest {
        lease: batch.key.clone(),
        outcomes: outcomes.clone(),
        close,
    };
    lock(&small.waiting).push(SmallSettle { request, answer });
    loop {
        let turn = tokio::select! {
            biased;
            settled = &mut answered => match settled {
                Ok(settled) => return settled,
                // Whoever had taken it on is gone.
                Err(_) => return settle_alone(worker, batch, outcomes, close, Manner::Plainly).await,
            },
            turn = small.turn.lock() => turn,
        };
        let heap: Vec<SmallSettle> = {
            let mut waiting = lock(&small.waiting);
            let count = waiting.len().min(TOGETHER_MAX);
            waiting.drain(..count).collect()
        };
        settle_heap(worker, heap).await;
        drop(turn);
    }
}

async fn settle_heap(worker: &Worker, heap: Vec<SmallSettle>) {
    let _permit = worker.settle_permits.acquire().await;
    let (requests, answers): (Vec<_>, Vec<_>) = heap
        .into_iter()
        .map(|small| (small.request, small.answer))
        .unzip();
    let doubt = worker.options.doubt;
    let settled = worker.store.settle(&requests, doubt).await;
    match settled {
        Ok(settled) => {
            for (answer, settled) in answers.into_iter().zip(settled) {
                let _ = answer.send(Ok(settled));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
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
) -> Heap {
    if outcomes.len() > 1 {
        let second = outcomes.split_off(outcomes.len() / 2);
        let first = Box::pin(settle_persistently(
            worker,
            batch,
            outcomes,
            false,
            Manner::Carefully,
        ))
        .await;
        let second = Box::pin(settle_persistently(
            worker,
            batch,
            second,
            close,
            Manner::Carefully,
        ))
        .await;
        return match (first, second) {
            (Heap::KeptBack(mut first), Heap::KeptBack(second)) => {
                first.extend(second);
                Heap::KeptBack(first)
            }
            (Heap::KeptBack(outcomes), _) | (_, Heap::KeptBack(outcomes)) => {
                Heap::KeptBack(outcomes)
            }
            (Heap::Lost, _) | (_, Heap::Lost) => Heap::Lost,
            (Heap::Written, Heap::Written) => Heap::Written,
        };
    }
    let Some(mut outcome) = outcomes.pop() else {
        return Heap::Lost;
    };
    let id = outcome.notification_id;
    if let Some(left_out) = REFUSED_OUTCOMES.admit() {
        error!(
            notification.id = id,
            left_out, "The database refused the outcome of notification {id}: {error}"
        );
    }
    if outcome.errmsg.is_none()
        && outcome.rid.is_none()
        && outcome.reason.as_deref() == Some(REFUSED)
    {
        return Heap::Lost;
    }
    outcome.errmsg = None;
    outcome.rid = None;
    outcome.reason = Some(REFUSED.to_owned());
    let last = settle_persistently(worker, batch, vec![outcome], close, Manner::Carefully);
    Box::pin(last).await
}

/// What stands in for texts the database refused.
const REFUSED: &str = "the database refused the texts of this outcome";

/// The lease is gone: another worker took it over, or this was the repeat of a settle whose answer was lost. Everything
/// we know is evidence either way: a reply, and that a row was not sent at all.
async fn offer_late_replies(worker: &Worker, batch: &Batch, outcomes: &[Outcome]) {
    telemetry::record_fenced("settle");
    for outcome in outcomes
        .iter()
        .filter(|outcome| outcome.verdict != Verdict::InDoubt)
    {
        let mut waits = Reconnect::new();
        while let Err(error) = worker
            .store
            .offer_late_reply(&batch.key, batch.started_at, outcome)
            .await
        {
            warn!(
                notification.id = outcome.notification_id,
                "A late reply is not recorded yet: {error}"
            );
            if error.is_data_error() || worker.abort.is_cancelled() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(waits.next_wait()) => {}
                () = worker.abort.cancelled() => {}
            }
        }
    }
}
