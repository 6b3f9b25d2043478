//! Asking the business whether reminders are still true, before they are sent. Any worker does.
//!
//! Rows wait in the database; a round claims what is to be asked now, by check and mini-program, and each check is asked by a task of its own,
//! one call at a time: one that hangs holds up no other. After a failure what was claimed meanwhile is put off without another call.
//!
//! Start at [`ask_until_stopped`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Worker;
use crate::store::checks::Claim;
use crate::store::{Store, StoreError};
use crate::telemetry;

/// How often to look while rows wait, and while none does: rows are made some seconds ahead and asked 2 s ahead.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_IDLY_EVERY: Duration = Duration::from_secs(1);
/// Rows of one mini-program and round, hence refs of one call.
const ROWS_A_CALL: i32 = 1000;
/// Checks asked at once, each on a connection of its own.
const ASKED_AT_ONCE: usize = 4;

/// Claims by check; what is asked at this moment has an entry, maybe an empty one.
#[derive(Default)]
struct Asking {
    waiting: HashMap<Option<String>, VecDeque<Claim>>,
    running: JoinSet<(Option<String>, bool)>,
}

/// Asks until told to stop; what is claimed and not answered then, others ask some seconds later.
pub(super) async fn ask_until_stopped(worker: Arc<Worker>) {
    let store = worker.store.giving_way();
    let mut asking = Asking::default();
    loop {
        let wait = match asking.look(&store).await {
            Ok(true) => LOOK_EVERY,
            Ok(false) => LOOK_IDLY_EVERY,
            Err(error) => {
                warn!("Checks wait for the database: {error}");
                LOOK_IDLY_EVERY
            }
        };
        let next_look = tokio::time::sleep(wait);
        tokio::pin!(next_look);
        loop {
            tokio::select! {
                () = &mut next_look => break,
                Some(ended) = asking.running.join_next() => asking.go_on(&store, ended).await,
                () = worker.stop.cancelled() => return,
            }
        }
    }
}

impl Asking {
    /// Claims what is to be asked. False: no row waits for a check.
    async fn look(&mut self, store: &Store) -> Result<bool, StoreError> {
        if !store.checks_wait().await? {
            return Ok(false);
        }
        for claim in store.claim_checks(ROWS_A_CALL).await? {
            let name = claim.check_name.clone();
            match self.waiting.get_mut(&name) {
                Some(others) => others.push_back(claim),
                None if self.running.len() < ASKED_AT_ONCE => {
                    self.waiting.insert(name, VecDeque::new());
                    self.running.spawn(ask(store.clone(), claim));
                }
                // Its claim ends by itself, and somebody asks then.
                None => debug!("A check waits for others"),
            }
        }
        Ok(true)
    }

    /// After a call of one check: the next, or, if it failed, none for those that wait.
    async fn go_on(
        &mut self,
        store: &Store,
        ended: Result<(Option<String>, bool), tokio::task::JoinError>,
    ) {
        let Ok((name, answered)) = ended else {
            // A panic names no check: what waits is claimed anew.
            self.waiting.clear();
            return;
        };
        let Some(waiting) = self.waiting.get_mut(&name) else {
            return;
        };
        if answered && let Some(claim) = waiting.pop_front() {
            self.running.spawn(ask(store.clone(), claim));
            return;
        }
        for claim in self.waiting.remove(&name).unwrap_or_default() {
            record_failure(store, &claim, "not asked: it failed a moment ago").await;
        }
    }
}

/// Asks about one claim and records the answer. False: it could not be asked.
async fn ask(store: Store, claim: Claim) -> (Option<String>, bool) {
    let name = claim.check_name.clone();
    let answer = match (&claim.check_name, &claim.function_name, &claim.fault) {
        // Their check is gone: the start of each says what becomes of it.
        (None, ..) => Ok(Vec::new()),
        (_, Some(function_name), None) => store.ask_check(function_name, &claim.refs).await,
        (.., fault) => Err(fault.clone().unwrap_or_default()),
    };
    match answer {
        Ok(holding) => {
            record_asked(&name, true);
            match store.settle_checks(&claim, &holding).await {
                Ok(ended) => debug!(check = name, ended, "A check answered"),
                Err(error) => warn!("The answer of a check was not recorded: {error}"),
            }
        }
        Err(problem) => {
            record_asked(&name, false);
            record_failure(&store, &claim, &problem).await;
            return (name, false);
        }
    }
    (name, true)
}

fn record_asked(name: &Option<String>, answered: bool) {
    if let Some(name) = name {
        telemetry::record_check(name, answered);
    }
}

async fn record_failure(store: &Store, claim: &Claim, problem: &str) {
    warn!(
        check = claim.check_name,
        rows = claim.ids.len(),
        "Whether reminders are still true could not be asked: {problem}"
    );
    if let Err(error) = store.fail_check(claim, problem).await {
        warn!("The failure of a check was not recorded: {error}");
    }
}
