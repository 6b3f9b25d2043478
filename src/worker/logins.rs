//! Exchanging login codes: as soon as they are seen, at most [`CALLS_MAX`] at a time, whenever their rows are to be sent.
//!
//! A code works once, so each call is preceded by a claim that is on disk. What a call brought is settled until the database
//! has it: an openid that is lost here cannot be had again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Worker;
use crate::notification::Conclusion;
use crate::notification::{ClaimedLogin, LoginOutcome};
use crate::store::StoreError;
use crate::telemetry;

/// Exchanges in flight.
const CALLS_MAX: usize = 16;
/// A claim lasts this much longer than a call may take.
const CLAIM_MARGIN: Duration = Duration::from_secs(5);
/// Whoever rings most likely brings a plain row: the leaser goes first.
const LEASES_FIRST: Duration = Duration::from_millis(20);
/// Rows that somebody else holds, and outcomes that the database did not take, are settled again after this long.
const AGAIN: Duration = Duration::from_millis(200);

/// Exchanges until told to stop; then what is in flight is waited for and settled.
pub(super) async fn exchange_until_stopped(worker: Arc<Worker>, stop: CancellationToken) {
    let mut calls = JoinSet::new();
    let mut unsettled: Vec<LoginOutcome> = Vec::new();
    let claim_for = worker.options.request_timeout + CLAIM_MARGIN;
    loop {
        let stopping = stop.is_cancelled() || worker.stop.is_cancelled();
        let is_idle = calls.is_empty() && unsettled.is_empty();
        if (stopping && is_idle) || worker.abort.is_cancelled() {
            return;
        }
        let free = CALLS_MAX - calls.len();
        if !stopping && free > 0 {
            let claimed = worker
                .store
                .claim_logins(&worker.options.appids, free, claim_for);
            match claimed.await {
                Ok(logins) => {
                    for login in logins {
                        calls.spawn(exchange(worker.clone(), login));
                    }
                }
                Err(error) => warn!("Login codes wait for the database: {error}"),
            }
        }
        if !unsettled.is_empty()
            && let Err(error) = settle(&worker, &mut unsettled).await
        {
            warn!("What login codes were exchanged for is not written yet: {error}");
        }
        let wait = if unsettled.is_empty() {
            worker.options.poll
        } else {
            AGAIN
        };
        tokio::select! {
            Some(ended) = calls.join_next() => {
                // A call that panicked leaves its claim to lapse.
                unsettled.extend(ended.ok());
                while let Some(ended) = calls.try_join_next() {
                    unsettled.extend(ended.ok());
                }
                let settled = settle(&worker, &mut unsettled).await;
                if let Err(error) = settled {
                    debug!("Login codes are settled again: {error}");
                }
            }
            () = worker.logins_rung.notified(), if !stopping => tokio::time::sleep(LEASES_FIRST).await,
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled(), if !stopping => {}
            () = worker.stop.cancelled(), if !stopping => {}
            () = worker.abort.cancelled() => {}
        }
    }
}

async fn exchange(worker: Arc<Worker>, login: ClaimedLogin) -> LoginOutcome {
    let Conclusion { outcome, effects } = worker.deliverer.exchange_login(&login).await;
    telemetry::record_login(&login.appid, outcome.verdict.label());
    debug!(
        notification.id = login.id,
        errcode = outcome.errcode,
        "The exchange of notification {}'s login code ended: {}",
        login.id,
        outcome.verdict
    );
    worker.apply(effects).await;
    outcome
}

/// Settles all; those of rows that somebody else holds stay.
async fn settle(worker: &Worker, unsettled: &mut Vec<LoginOutcome>) -> Result<(), StoreError> {
    let kept_back = worker.store.settle_logins(unsettled, &worker.id).await?;
    unsettled.retain(|outcome| kept_back.contains(&outcome.id));
    Ok(())
}
