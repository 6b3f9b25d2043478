//! Sleeping and waking. A worker that has nothing to do arms the bell, a sequence in the database; INSERTs then send a
//! NOTIFY. Between the last poll and the arming an INSERT may have looked at the bell unarmed: until every transaction
//! older than the arming has ended, the sleeper goes on polling. The bell is armed for some seconds only, so that it does not
//! go on ringing for workers that died; who goes on sleeping prolongs it. Behind a pooler in transaction mode, where no LISTEN
//! is possible, and for producers that may send no NOTIFY (two-phase commit), polling alone must do.

use std::io::ErrorKind::TimedOut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Executor;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::Worker;
use crate::reconnect::Reconnect;
use crate::store::{Route, StoreError};

/// The channel of NOTIFY.
const CHANNEL: &str = "wxnotify";
/// How often a sleeper looks whether somebody has disarmed the bell, and prolongs it; well within the seconds it is armed for.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How soon a sleeper polls again while the fence has not passed.
const FENCE_POLL: Duration = Duration::from_millis(20);
/// After so long a silence the listener asks whether anybody is at the other end.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Rings when a producer inserted something while a worker slept.
pub(super) struct Bell {
    rung: Arc<Notify>,
    armed: Option<Armed>,
    /// Whether NOTIFY can arrive; else a sleeper only polls, and producers are spared it.
    hears: bool,
}

/// The bell is armed; transactions older than the fence may not know.
struct Armed {
    fence: i64,
    passed: bool,
    looked_at: Instant,
    /// How long to sleep while the fence has not passed; one long transaction must not keep a worker busy.
    nap: Duration,
}

/// Listens on a connection of its own for as long as the worker runs.
pub(super) fn listen(worker: Arc<Worker>) -> Bell {
    let rung = Arc::new(Notify::new());
    let hears = worker.store.pool.route() == Route::Direct;
    let bell = Bell {
        rung: rung.clone(),
        armed: None,
        hears,
    };
    if !hears {
        return bell;
    }
    tokio::spawn(async move {
        let stop = worker.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = keep_listening(&worker, &rung) => {}
        }
    });
    bell
}

async fn keep_listening(worker: &Worker, ring: &Notify) {
    let mut waits = Reconnect::new();
    loop {
        match receive(worker, ring, &mut waits).await {
            Ok(()) => {}
            Err(error) => debug!("Not listening, polling meanwhile: {error}"),
        }
        tokio::time::sleep(waits.next_wait()).await;
    }
}

async fn receive(worker: &Worker, ring: &Notify, waits: &mut Reconnect) -> sqlx::Result<()> {
    let deadline = worker.store.deadline();
    // Of several hosts the one that can be written to at this moment: nobody rings at another.
    let options = worker.store.pool.address().choose(deadline).await?;
    // A pool of its own: when the way to the database is half open, the connection is left behind with its pool.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(deadline)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let in_time = |what| move |_| sqlx::Error::Io(std::io::Error::new(TimedOut, what));
    let mut listener = PgListener::connect_with(&pool).await?;
    tokio::time::timeout(deadline, listener.listen(CHANNEL))
        .await
        .map_err(in_time("no answer to LISTEN"))??;
    // What was inserted while nobody listened rang for nobody.
    ring.notify_one();
    worker.logins_rung.notify_one();
    loop {
        match tokio::time::timeout(SILENCE_MAX, listener.try_recv()).await {
            Ok(Ok(Some(_))) => {
                ring.notify_one();
                worker.logins_rung.notify_one();
            }
            // The connection was lost, and what was sent meanwhile with it.
            Ok(Ok(None)) => {
                warn!("The connection that listens for new rows was lost and is made again");
                return Ok(());
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                tokio::time::timeout(deadline, listener.execute("select 1"))
                    .await
                    .map_err(in_time("silent, and no answer to a question"))??;
            }
        }
        *waits = Reconnect::new();
    }
}

impl Bell {
    /// Resolves when the bell has rung.
    pub(super) async fn rung(&self) {
        self.rung.notified().await;
    }

    /// Spares producers the NOTIFY while this worker is busy.
    pub(super) async fn disarm(&mut self, worker: &Worker) -> Result<(), StoreError> {
        if self.armed.take().is_some() {
            worker.store.disarm_bell().await?;
        }
        Ok(())
    }

    /// Sleeps up to `longest`, with the bell armed. True: something rang, look everywhere.
    pub(super) async fn sleep(
        &mut self,
        worker: &Worker,
        longest: Duration,
    ) -> Result<bool, StoreError> {
        if !self.hears {
            let _ = tokio::time::timeout(longest, worker.stop.cancelled()).await;
            return Ok(false);
        }
        let Some(armed) = &mut self.armed else {
            let fence = worker.store.arm_bell().await?;
            self.armed = Some(Armed {
                fence,
                passed: false,
                looked_at: Instant::now(),
                nap: FENCE_POLL,
            });
            // What came before the arming is found by a look after it.
            return Ok(false);
        };
        if !armed.passed || armed.looked_at.elapsed() >= LOOK_EVERY {
            let (is_armed, oldest) = worker.store.bell_state().await?;
            armed.looked_at = Instant::now();
            armed.passed = oldest >= armed.fence;
            if !is_armed {
                self.armed = None;
                return Ok(false);
            }
        }
        let nap = if armed.passed {
            longest.min(LOOK_EVERY)
        } else {
            armed.nap *= 2;
            longest.min(armed.nap / 2)
        };
        tokio::select! {
            () = self.rung.notified() => {}
            () = tokio::time::sleep(nap) => return Ok(false),
            () = worker.stop.cancelled() => return Ok(false),
        }
        Ok(true)
    }
}
