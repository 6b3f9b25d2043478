//! Periodic work that any worker does, with no leader: rescue what dead workers left, weigh evidence, record receipts, tidy fronts, say
//! that we live, set gauges, keep the books of the history, ask WeChat for templates and quotas, make partitions ahead and drop old ones.
//!
//! Every task is idempotent and takes its locks with SKIP LOCKED or for one bounded statement, so it does not matter how
//! many workers do it at once.
//!
//! Start at [`run`].

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;
use rand::RngExt;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::Worker;
use crate::legible::{command, few};
use crate::store::privacy::Forgotten;
use crate::store::{EVENTS_A_CALL, Store, StoreError};
use crate::telemetry::{self, Restraint};
use crate::wechat::errcode::ErrcodeTable;

/// The pace of rescue and of the look at blocked lanes.
const TICK: Duration = Duration::from_secs(1);
/// A lane whose front is overdue is tidied this often even when nobody complained.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// Rows of one tidy, and how many of them in a row while there is something to tidy.
const TIDY_ROWS: i32 = 1000;
const TIDY_ROUNDS: usize = 5;
/// While rows are sent, a tidy takes at most one part in this many of the time.
const TIDY_DUTY: u32 = 20;
/// The same for looking where lanes stand still.
const FRONTS_DUTY: u32 = 20;
/// What takes longer waited for a connection or a lock, which is no reason to rest.
const DUTY_FOR: Duration = Duration::from_secs(1);

/// Batches of events in a row while there are receipts to record.
const EVENT_ROUNDS: usize = 20;
/// Batches of old events forgotten in a row.
const FORGET_ROUNDS: usize = 50;

const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// The second beat comes sooner: workers that were started together learn of each other.
const SECOND_BEAT_AFTER: Duration = Duration::from_millis(500);
/// The server ends a statement a second after its client gave up.
const LATE_ANSWER: Duration = Duration::from_secs(2);
const WARNINGS_EVERY: Duration = Duration::from_secs(15);
const GAUGES_EVERY: Duration = Duration::from_secs(15);
/// Of an idle worker that last saw due rows, counting them anew takes at most one part in this many of the time.
const GAUGES_DUTY: u32 = 50;
/// How often to look for questions to WeChat that are due.
const MIRROR_EVERY: Duration = Duration::from_secs(2);
/// A worker that starts asks anew only what was answered longer ago: several often start together.
const MIRROR_IS_FRESH: Duration = Duration::from_secs(600);
const BOOKS_EVERY: Duration = Duration::from_secs(15);
const REMINDERS_COUNTED_EVERY: Duration = Duration::from_secs(15);
/// Steps in a row while the books lag behind.
const BOOK_ROUNDS: usize = 20;
const RULES_EVERY: Duration = Duration::from_secs(30);
const PARTITIONS_EVERY: Duration = Duration::from_secs(3600);
/// In plaintext mode whoever has seen one callback can forge others.
static PUNISHMENTS: Restraint = Restraint::new(10);

/// A lane to tidy.
type LaneKey = (String, i16);

struct Maintenance {
    worker: Arc<Worker>,
    /// Gives way to what sends.
    store: Store,
    blocked: mpsc::UnboundedReceiver<LaneKey>,
    tidied: HashMap<LaneKey, Tidied>,
    /// When the first row of each overdue lane was due, in milliseconds, at the last look.
    fronts: HashMap<LaneKey, i64>,
    /// When the fronts may be looked at again.
    fronts_not_before: Instant,
    /// The last count of the queue.
    count: Option<QueueCount>,
    done: HashMap<&'static str, Instant>,
}

/// When the queue was counted for the gauges, what that took, and whether there was something due.
#[derive(Debug, Clone, Copy)]
struct QueueCount {
    at: Instant,
    took: Duration,
    found_due: bool,
}

impl QueueCount {
    /// Whether to count again: now and then, and soon when rows were due and this worker sends nothing any more, since the
    /// gauges would go on showing rows that are gone.
    fn is_stale(&self, now: Instant, is_idle: bool) -> bool {
        let age = now.saturating_duration_since(self.at);
        let may_mislead = self.found_due && is_idle;
        age >= GAUGES_EVERY || may_mislead && age >= self.took.min(DUTY_FOR) * GAUGES_DUTY
    }
}

/// When a lane was tidied and when it may be again.
struct Tidied {
    at: Instant,
    not_before: Instant,
}

/// Does its rounds until it is aborted.
pub(super) async fn run(worker: Arc<Worker>, blocked: mpsc::UnboundedReceiver<LaneKey>) {
    let mut maintenance = Maintenance {
        store: worker.store.giving_way(),
        worker: worker.clone(),
        blocked,
        tidied: HashMap::new(),
        fronts: HashMap::new(),
        fronts_not_before: Instant::now(),
        count: None,
        done: HashMap::new(),
    };
    tokio::join!(beat(&worker), answer_lookups(&worker), async {
        loop {
            // A fault of ours in one round must not end all later ones.
            if AssertUnwindSafe(maintenance.round())
                .catch_unwind()
                .await
                .is_err()
            {
                error!("A round of maintenance panicked; the next one comes");
            }
            maintenance.pause().await;
        }
    });
}

/// Says that the worker lives, whatever its rounds are held up by.
async fn beat(worker: &Worker) {
    let mut wait = SECOND_BEAT_AFTER;
    loop {
        complain("heartbeat", heartbeat(worker).await);
        tokio::time::sleep(wait).await;
        wait = HEARTBEAT_EVERY;
    }
}

/// Asks WeChat what is due to be asked, beside the rounds: WeChat may take its time.
async fn answer_lookups(worker: &Worker) {
    let appids = &worker.options.appids;
    let wanted = worker.store.want_lookups(appids, MIRROR_IS_FRESH).await;
    complain("lookups", wanted);
    loop {
        complain("lookups", worker.lookups.answer_due(appids).await);
        tokio::time::sleep(MIRROR_EVERY).await;
    }
}

async fn heartbeat(worker: &Worker) -> Result<(), StoreError> {
    let in_flight = i32::try_from(worker.tally.in_flight()).unwrap_or(i32::MAX);
    let alive = worker
        .store
        .heartbeat(
            &worker.name,
            worker.epoch,
            in_flight,
            &worker.options.appids,
        )
        .await?;
    worker.workers_alive.store(alive, Ordering::Relaxed);
    // What an unanswered request may have leased behind our back; the server has ended every such request by then.
    let age = worker.store.deadline() + LATE_ANSWER;
    let dropped = worker
        .store
        .drop_unknown(&worker.id, &worker.known_leases(), age)
        .await?;
    if dropped > 0 {
        warn!(dropped, "Leases without a clear reply were given back");
    }
    Ok(())
}

/// One task's failure must not keep the others from their turn.
fn complain(task: &str, result: Result<(), StoreError>) {
    if let Err(error) = result {
        warn!("Maintenance will do {task} again: {error}");
    }
}

impl Maintenance {
    async fn round(&mut self) {
        complain("apps", self.worker.refresh_apps().await);
        complain("rescue", self.rescue().await);
        complain("weigh", self.store.weigh().await.map(drop));
        complain("events", self.apply_events().await);
        complain("answers", self.apply_answers().await);
        complain("tidy", self.tidy_overdue().await);
        complain("gauges", self.set_gauges().await);
        if self.is_time("warnings", WARNINGS_EVERY) {
            complain("apps", self.warn_of_unregistered().await);
            complain("punishments", self.tell_of_punishments().await);
        }
        if self.is_time("reminder gauges", REMINDERS_COUNTED_EVERY) {
            complain("reminder gauges", self.set_reminder_gauges().await);
        }
        if self.is_time("books", BOOKS_EVERY) {
            complain("books", self.keep_books().await);
            complain("forgetting", self.forget_old().await);
        }
        if self.is_time("rules", RULES_EVERY) {
            complain("rules", self.read_rules().await);
        }
        if self.is_time("partitions", PARTITIONS_EVERY) {
            complain("partitions", self.see_to_partitions().await);
        }
    }

    /// Waits for the next round; lanes that are reported meanwhile are tidied at once.
    async fn pause(&mut self) {
        // Workers that started together drift apart.
        let until = Instant::now() + TICK.mul_f64(rand::rng().random_range(0.75..1.25));
        while let Ok(lane) = tokio::time::timeout_at(until.into(), self.blocked.recv()).await {
            match lane {
                Some(lane) => complain("tidy", self.tidy(lane).await),
                None => tokio::time::sleep_until(until.into()).await,
            }
        }
    }

    async fn rescue(&self) -> Result<(), StoreError> {
        let worker = &self.worker;
        let rescued = self
            .store
            .rescue(worker.options.doubt, &worker.id, &worker.known_leases())
            .await?;
        if rescued > 0 {
            telemetry::record_rescue(usize::try_from(rescued).unwrap_or(0));
            warn!(
                rows = rescued,
                "{rescued} rows of a vanished worker are in doubt"
            );
        }
        Ok(())
    }

    async fn set_gauges(&mut self) -> Result<(), StoreError> {
        let at = Instant::now();
        let is_idle = self.worker.tally.in_flight() == 0;
        if self.count.is_some_and(|count| !count.is_stale(at, is_idle)) {
            return Ok(());
        }
        let weight = self.store.backlog_gauges().await?;
        telemetry::record_queue(weight);
        self.count = Some(QueueCount {
            at,
            took: at.elapsed(),
            found_due: weight.due_rows > 0,
        });
        Ok(())
    }

    async fn set_reminder_gauges(&self) -> Result<(), StoreError> {
        let counts = self.store.reminder_gauges().await?;
        telemetry::record_reminders(&counts);
        Ok(())
    }

    /// Takes the books of the history further.
    async fn keep_books(&self) -> Result<(), StoreError> {
        for _ in 0..BOOK_ROUNDS {
            if self.store.keep_unconfirmed().await? {
                break;
            }
        }
        Ok(())
    }

    /// Forgets texts and receivers of the history that are older than the settings allow.
    async fn forget_old(&self) -> Result<(), StoreError> {
        let options = &self.worker.options;
        for (book, days) in [
            (Forgotten::Data, options.data_days),
            (Forgotten::Openids, options.openid_days),
        ] {
            for _ in 0..BOOK_ROUNDS {
                if days == 0 || self.store.forget_old(book, days).await? {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn read_rules(&self) -> Result<(), StoreError> {
        let rules = self.store.errcode_rules().await?;
        self.worker
            .deliverer
            .replace_errcodes(ErrcodeTable::new(rules));
        Ok(())
    }

    /// Whether a task's time has come; it then counts as done.
    fn is_time(&mut self, task: &'static str, every: Duration) -> bool {
        let now = Instant::now();
        let due = self.done.get(task).is_none_or(|done| now - *done >= every);
        if due {
            self.done.insert(task, now);
        }
        due
    }

    /// Records what WeChat's sent events say of rows that have ended.
    async fn apply_events(&self) -> Result<(), StoreError> {
        for _ in 0..EVENT_ROUNDS {
            if self.store.apply_events().await? < EVENTS_A_CALL {
                break;
            }
        }
        Ok(())
    }

    /// Parks and releases by what users said, and pairs their accepts with rows.
    async fn apply_answers(&self) -> Result<(), StoreError> {
        let policy = self.worker.options.claim;
        for _ in 0..EVENT_ROUNDS {
            if self.store.apply_answers(policy).await? < EVENTS_A_CALL {
                break;
            }
        }
        Ok(())
    }

    /// Tidies now and then every lane whose front is overdue and stands still: rows of unknown mini-programs have no worker
    /// that would report them. A front that moves is being leased.
    async fn tidy_overdue(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if now < self.fronts_not_before {
            return Ok(());
        }
        let fronts = self.store.fronts_for_upkeep().await?;
        // Dear when it walks past many rows that nobody can see.
        self.fronts_not_before = Instant::now() + now.elapsed().min(DUTY_FOR) * FRONTS_DUTY;
        let before = std::mem::take(&mut self.fronts);
        for front in fronts {
            let Some(overdue_secs) = front.due_in_secs.filter(|secs| *secs < -1.0) else {
                continue;
            };
            let lane = (front.appid, front.lane);
            let due_ms = front.at.timestamp_millis() + (overdue_secs * 1e3) as i64;
            let stands_still = before
                .get(&lane)
                .is_some_and(|before| before.abs_diff(due_ms) <= 2);
            let is_time = self
                .tidied
                .get(&lane)
                .is_none_or(|tidied| now - tidied.at >= TIDY_EVERY);
            self.fronts.insert(lane.clone(), due_ms);
            if stands_still && is_time {
                self.tidy(lane).await?;
            }
        }
        Ok(())
    }

    async fn tidy(&mut self, lane: LaneKey) -> Result<(), StoreError> {
        let began = Instant::now();
        if self
            .tidied
            .get(&lane)
            .is_some_and(|tidied| tidied.not_before > began)
        {
            return Ok(());
        }
        for _ in 0..TIDY_ROUNDS {
            if self.store.tidy(&lane.0, lane.1, TIDY_ROWS).await? < TIDY_ROWS / 2 {
                break;
            }
        }
        let rests = if self.worker.tally.in_flight() > 0 {
            TIDY_DUTY
        } else {
            1
        };
        let not_before = Instant::now()
            + (began.elapsed().min(DUTY_FOR) * rests).max(Duration::from_millis(100));
        self.tidied.insert(
            lane,
            Tidied {
                at: began,
                not_before,
            },
        );
        Ok(())
    }

    async fn warn_of_unregistered(&self) -> Result<(), StoreError> {
        let unregistered = self.store.list_unregistered_apps().await?;
        if let [first, ..] = &unregistered[..] {
            // One line however many: who inserts can make up any number.
            warn!(
                apps = unregistered.len(),
                "Rows wait for mini-programs that are not registered ({}): run {}",
                few(&unregistered),
                command("wxnotify app add {}", &[first])
            );
        }
        let registered = self.worker.apps();
        for appid in &self.worker.options.appids {
            if !registered.iter().any(|app| app.appid == *appid) {
                warn!(
                    wechat.appid = %appid,
                    "This worker has the secret of {appid}, which is not registered: run {}",
                    command("wxnotify app add {}", &[appid])
                );
            }
        }
        Ok(())
    }

    /// A ban explains refusals that would otherwise look like ours.
    async fn tell_of_punishments(&self) -> Result<(), StoreError> {
        for punishment in self.store.new_punishments().await? {
            let Some(left_out) = PUNISHMENTS.admit() else {
                continue;
            };
            warn!(
                wechat.appid = %punishment.appid,
                left_out,
                "{}; see the view wechat_punishments and the notices at mp.weixin.qq.com",
                punishment.sentence()
            );
        }
        Ok(())
    }

    async fn see_to_partitions(&self) -> Result<(), StoreError> {
        let store = &self.store;
        let made = store.make_partitions().await?;
        let dropped = store
            .drop_old_partitions(self.worker.options.history_months)
            .await?;
        if made > 0 || !dropped.is_empty() {
            info!(
                made,
                dropped = dropped.len(),
                "Partitions were made ahead and dropped by retention"
            );
        }
        for _ in 0..FORGET_ROUNDS {
            let months = self.worker.options.history_months;
            if store.drop_old_events(months).await? == 0 {
                break;
            }
        }
        for _ in 0..FORGET_ROUNDS {
            if store.drop_old_fires().await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(took_ms: u64, found_due: bool) -> QueueCount {
        QueueCount {
            at: Instant::now(),
            took: Duration::from_millis(took_ms),
            found_due,
        }
    }

    #[test]
    fn rows_that_were_due_are_counted_again_within_a_second_of_the_last_send() {
        let count = counted(2, true);
        let soon = count.at + Duration::from_millis(750);
        assert!(count.is_stale(soon, true));
        assert!(!count.is_stale(soon, false), "it sends: the count is dear");
        assert!(!counted(2, false).is_stale(soon, true), "nothing was due");
    }

    #[test]
    fn a_dear_count_is_made_more_rarely_but_never_later_than_a_quarter_of_a_minute() {
        let count = counted(200, true);
        assert!(!count.is_stale(count.at + Duration::from_secs(9), true));
        assert!(count.is_stale(count.at + Duration::from_secs(10), true));
        let hopeless = counted(60_000, true);
        assert!(hopeless.is_stale(hopeless.at + GAUGES_EVERY, true));
        assert!(counted(1, false).is_stale(hopeless.at + GAUGES_EVERY * 2, false));
    }
}
