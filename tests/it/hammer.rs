//! Everybody at once: workers that crash and stall, producers with transactions open, cancels, reschedules, arms,
//! operators, rescuers, tidiers and a snapshot pinned all along; and a truth to compare with.
//!
//! `WXNOTIFY_HAMMER_SEED` and `WXNOTIFY_HAMMER_SECS` choose the dice and how long it runs.

mod truth;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::kernel::mutants::{self, Mutant};
use crate::kernel::{Lease, Outcome, Queue, run, settle, settle_together};
use truth::{Ended, Send, Told, Truth};

const APPS: [&str; 2] = ["wxapp-one", "wxapp-two"];
/// Short, so that crashed leases are rescued many times in a run.
const LEASE_TTL: Duration = Duration::from_millis(900);
/// Workers send nothing so shortly before the end of their lease.
const LEASE_MARGIN: Duration = Duration::from_millis(300);
const DOUBT_WINDOW_SECS: f64 = 0.2;
const DOUBT_AGE_SECS: f64 = 1.5;

/// What all actors share.
struct Stage {
    queue: Queue,
    truth: Mutex<Truth>,
    running: AtomicBool,
    /// While true, workers crash, stall and get refused.
    faulty: AtomicBool,
}

impl Stage {
    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    fn running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// A row committed some time ago, mostly a recent one.
    fn any_row(&self, dice: &mut StdRng, fits: impl Fn(&i64, &Told) -> bool) -> Option<i64> {
        let truth = self.truth();
        let newest = truth.rows.keys().max().copied()?;
        (0..20)
            .map(|_| newest - dice.random_range(0..120))
            .find(|id| truth.rows.get(id).is_some_and(|row| fits(id, row)))
    }
}

fn words(version: i64) -> Value {
    json!({"thing1": {"value": format!("version {version}")}})
}

async fn pause(dice: &mut StdRng, millis: u64) {
    sleep(Duration::from_millis(dice.random_range(0..=millis))).await;
}

/// Ends a transaction: mostly with a commit, in one of ten with a rollback. Returns whether it was committed.
async fn end(session: &mut PgConnection, dice: &mut StdRng, open_millis: u64) -> bool {
    pause(dice, open_millis).await;
    let commit = dice.random_bool(0.9);
    run(session, if commit { "commit" } else { "rollback" }).await;
    commit
}

async fn produce(stage: Arc<Stage>, mut dice: StdRng) {
    let mut session = stage.queue.session().await;
    while stage.running() {
        run(&mut session, "begin").await;
        let mut inserted = Vec::new();
        for _ in 0..dice.random_range(1..=6) {
            let held = dice.random_bool(0.1);
            let key = dice
                .random_bool(0.25)
                .then(|| format!("key-{}", dice.random_range(0..60)));
            let appid = APPS[dice.random_range(0..2)];
            let id: i64 = sqlx::query_scalar(
                "insert into pending_notifications (appid, openid, template_id, data, lane, held, dedup_key, on_doubt, attempts_max, send_at, expire_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10), now() + make_interval(secs => $11))
                 returning id",
            )
            .bind(appid)
            .bind(format!("user-{}", dice.random_range(0..60)))
            .bind(format!("template-{}", dice.random_range(0..2)))
            .bind(words(0))
            .bind(dice.random_range(0..3_i16))
            .bind(held)
            .bind(&key)
            .bind(if dice.random_bool(0.1) { "hold" } else { "retry" })
            .bind(dice.random_range(2..9_i16))
            .bind(dice.random_bool(0.1).then(|| dice.random_range(0.0..1.0)))
            .bind(dice.random_bool(0.1).then(|| dice.random_range(0.5..4.0)))
            .fetch_one(&mut session)
            .await
            .unwrap();
            inserted.push((
                id,
                Told {
                    appid: appid.to_owned(),
                    key,
                    version: 0,
                    held,
                    cancelled: false,
                },
            ));
        }
        let open_millis = if dice.random_bool(0.1) { 300 } else { 10 };
        let committed = end(&mut session, &mut dice, open_millis).await;
        let mut truth = stage.truth();
        if committed {
            truth.rows.extend(inserted);
        } else {
            truth.rolled_back.extend(inserted.iter().map(|row| row.0));
        }
    }
}

async fn cancel(stage: Arc<Stage>, mut dice: StdRng) {
    let mut session = stage.queue.session().await;
    while stage.running() {
        pause(&mut dice, 5).await;
        let Some(id) = stage.any_row(&mut dice, |_, row| !row.cancelled) else {
            continue;
        };
        run(&mut session, "begin").await;
        let changed = run(
            &mut session,
            &format!("delete from pending_notifications where id = {id}"),
        )
        .await;
        if end(&mut session, &mut dice, 60).await && changed == 1 {
            stage.truth().rows.get_mut(&id).unwrap().cancelled = true;
        }
    }
}

/// Writes new words into rows whose number is this editor's.
async fn edit(stage: Arc<Stage>, mut dice: StdRng, editor: i64) {
    let mut session = stage.queue.session().await;
    while stage.running() {
        pause(&mut dice, 5).await;
        let Some(id) = stage.any_row(&mut dice, |id, row| id % 2 == editor && !row.held) else {
            continue;
        };
        let version = stage.truth().rows[&id].version + 1;
        run(&mut session, "begin").await;
        let statement = format!(
            "update pending_notifications set data = '{}' where id = {id}",
            words(version)
        );
        let changed = run(&mut session, &statement).await;
        if end(&mut session, &mut dice, 40).await && changed == 1 {
            stage.truth().rows.get_mut(&id).unwrap().version = version;
        }
    }
}

async fn reschedule(stage: Arc<Stage>, mut dice: StdRng) {
    let mut session = stage.queue.session().await;
    while stage.running() {
        pause(&mut dice, 5).await;
        let Some(id) = stage.any_row(&mut dice, |_, _| true) else {
            continue;
        };
        let change = match dice.random_range(0..4) {
            0 => "send_at = now()",
            1 => "send_at = now() + interval '300 ms'",
            2 => "expire_at = now() + interval '2 s'",
            _ => "expire_at = null",
        };
        run(&mut session, "begin").await;
        run(
            &mut session,
            &format!("update pending_notifications set {change} where id = {id}"),
        )
        .await;
        end(&mut session, &mut dice, 40).await;
    }
}

async fn arm(stage: Arc<Stage>, mut dice: StdRng) {
    let mut session = stage.queue.session().await;
    let mut version = 1_000_000;
    while stage.running() {
        pause(&mut dice, 5).await;
        version += 1;
        run(
            &mut session,
            if dice.random_bool(0.5) {
                "begin"
            } else {
                "begin isolation level repeatable read"
            },
        )
        .await;
        let armed = sqlx::query_scalar::<_, Option<i64>>("select arm($1, $2, $3, $4)")
            .bind(APPS[dice.random_range(0..2)])
            .bind(format!("user-{}", dice.random_range(0..60)))
            .bind(format!("template-{}", dice.random_range(0..2)))
            .bind(words(version))
            .fetch_one(&mut session)
            .await;
        match armed {
            Ok(id) => {
                if end(&mut session, &mut dice, 40).await
                    && let Some(id) = id
                {
                    // Its producer may not have told us of it yet.
                    while !stage.truth().rows.contains_key(&id) {
                        tokio::task::yield_now().await;
                    }
                    let mut truth = stage.truth();
                    let row = truth.rows.get_mut(&id).unwrap();
                    (row.version, row.held) = (version, false);
                }
            }
            // Above READ COMMITTED a credit that changed meanwhile is a serialization failure.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40001") => {
                run(&mut session, "rollback").await;
            }
            Err(error) => panic!("arm: {error}"),
        }
    }
}

/// Ends doubts by what the user's phone shows.
async fn operate(stage: Arc<Stage>, mut dice: StdRng) {
    let mut session = stage.queue.session().await;
    while stage.running() {
        pause(&mut dice, 30).await;
        run(&mut session, "begin").await;
        let doubt: Option<(String, i64)> = sqlx::query_as(
            "select appid, id from pending_notifications where in_doubt_since is not null order by random() limit 1 for update skip locked",
        )
        .fetch_optional(&mut session)
        .await
        .unwrap();
        if let Some((appid, id)) = doubt {
            // With the row locked nothing new can be sent of it; in flight the decision is refused.
            let delivered = stage
                .truth()
                .sends
                .iter()
                .find_map(|send| send.delivered.filter(|_| send.id == id));
            let verdict = match delivered {
                Some(_) if dice.random_bool(0.8) => "sent",
                None if dice.random_bool(0.8) => "not_sent",
                _ => "unresolved",
            };
            let decided = sqlx::query("select wxnotify_decide($1, $2, $3, 'operator', $4)");
            decided
                .bind(appid)
                .bind(id)
                .bind(verdict)
                .bind(delivered)
                .execute(&mut session)
                .await
                .unwrap();
        }
        end(&mut session, &mut dice, 10).await;
    }
}

async fn rescue(stage: Arc<Stage>, mut dice: StdRng) {
    let mut session = stage.queue.session().await;
    let statement = format!("select wxnotify_rescue({DOUBT_WINDOW_SECS}, {DOUBT_AGE_SECS})");
    while stage.running() {
        pause(&mut dice, 60).await;
        run(&mut session, &statement).await;
    }
}

async fn tidy_and_weigh(stage: Arc<Stage>, mut dice: StdRng) {
    let mut session = stage.queue.session().await;
    while stage.running() {
        pause(&mut dice, 30).await;
        let appid = APPS[dice.random_range(0..2)];
        let lane = dice.random_range(0..3);
        run(
            &mut session,
            &format!("select wxnotify_tidy('{appid}', {lane}::smallint, 200)"),
        )
        .await;
        run(&mut session, &format!("select wxnotify_weigh('{appid}')")).await;
    }
}

/// Brings WeChat's events about delivered messages, some late, some never.
async fn report_events(stage: Arc<Stage>, mut dice: StdRng) {
    let mut session = stage.queue.session().await;
    let mut seen = 0;
    while stage.running() {
        pause(&mut dice, 40).await;
        let news = stage.truth().sends[seen..].to_vec();
        seen += news.len();
        for send in news.into_iter().filter(|_| dice.random_bool(0.4)) {
            let Some(msgid) = send.delivered else {
                continue;
            };
            let statement = "insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at) values ($1, 'sent', $2, $3, $4, $5)";
            let event = sqlx::query(statement)
                .bind(&send.appid)
                .bind(&send.openid)
                .bind(&send.template_id);
            event
                .bind(msgid)
                .bind(send.at)
                .execute(&mut session)
                .await
                .unwrap();
        }
    }
}

/// Looks at what must hold in every snapshot.
async fn watch(stage: Arc<Stage>, mut dice: StdRng) {
    const RULES: [(&str, &str); 4] = [
        (
            "a user in two leases",
            "select count(*) from (select l.appid, k from notification_leases l, unnest(l.user_keys) k group by 1, 2 having count(*) > 1) x",
        ),
        (
            "a row in two leases",
            "select count(*) from (select i from notification_leases l, unnest(l.ids) i group by 1 having count(*) > 1) x",
        ),
        (
            "a pair twice in doubt",
            "select count(*) from (select 1 from pending_notifications where in_doubt_since is not null group by appid, openid, template_id having count(*) > 1) x",
        ),
        (
            "a key without an owner",
            "select count(*) from notification_keys k where not exists (select from pending_notifications p where p.id = k.id) and not exists (select from notification_history h where h.id = k.id and h.status in ('sent', 'presumed_sent'))",
        ),
    ];
    let mut session = stage.queue.session().await;
    while stage.running() {
        pause(&mut dice, 10).await;
        let (rule, statement) = RULES[dice.random_range(0..RULES.len())];
        let broken: i64 = sqlx::query_scalar(statement)
            .fetch_one(&mut session)
            .await
            .unwrap();
        if broken > 0 {
            stage
                .truth()
                .violations
                .push(format!("{rule}: {broken} at once"));
        }
    }
}

/// A leased row, as far as its sender needs it.
#[derive(sqlx::FromRow)]
struct Leased {
    lease_id: Option<i64>,
    low_lease_id: Option<i64>,
    id: Option<i64>,
    openid: Option<String>,
    template_id: Option<String>,
    data: Option<String>,
    due: Option<DateTime<Utc>>,
    expire_at: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
}

/// Where the next pick of a lane starts: the watermark, looked back a second, and now and then the very start.
struct Watermark {
    at: (DateTime<Utc>, i64),
    low_lease_id: i64,
    swept: Instant,
}

impl Watermark {
    fn new() -> Self {
        Self {
            at: (DateTime::UNIX_EPOCH, 0),
            low_lease_id: 0,
            swept: Instant::now(),
        }
    }

    fn next_start(&mut self) -> (DateTime<Utc>, i64) {
        if self.swept.elapsed() >= Duration::from_secs(1) {
            self.swept = Instant::now();
            return (DateTime::UNIX_EPOCH, 0);
        }
        self.at.min((Utc::now() - TimeDelta::seconds(1), 0))
    }
}

struct Worker {
    stage: Arc<Stage>,
    session: PgConnection,
    dice: StdRng,
    number: usize,
    epoch: u32,
    /// Delivered and not settled yet: what is in hand is settled together.
    in_hand: Vec<Delivered>,
}

/// A lease, when it was started, and what the worker believes of its rows.
type Delivered = (Lease, Option<DateTime<Utc>>, Vec<Outcome>);

impl Worker {
    fn name(&self) -> String {
        format!("worker-{}/{}", self.number, self.epoch)
    }

    /// One chance in a hundred, `percent` times; never once the faults are over.
    fn fault(&mut self, percent: f64) -> bool {
        self.stage.faulty.load(Ordering::Relaxed) && self.dice.random_bool(percent / 100.0)
    }

    async fn work(mut self) {
        let mut watermarks: Vec<Watermark> = (0..6).map(|_| Watermark::new()).collect();
        while self.stage.running() {
            let lane = self.dice.random_range(0..6);
            let requested_at = Instant::now();
            let start_at_once = self.dice.random_bool(0.3);
            let rows = self.lease(lane, &mut watermarks[lane], start_at_once).await;
            if rows.is_empty() {
                self.settle_in_hand().await;
                pause(&mut self.dice, 10).await;
            } else if self.fault(1.5) {
                // It vanished with a lease reserved or, if started at once, with nothing sent.
                self.vanish();
            } else {
                self.deliver(APPS[lane % 2], rows, requested_at, start_at_once)
                    .await;
            }
        }
        self.settle_in_hand().await;
    }

    /// Another worker comes in its place; what it had in hand is lost.
    fn vanish(&mut self) {
        self.epoch += 1;
        self.in_hand.clear();
    }

    async fn lease(&mut self, lane: usize, watermark: &mut Watermark, start: bool) -> Vec<Leased> {
        let from = watermark.next_start();
        let rows: Vec<Leased> =
            sqlx::query_as("select * from wxnotify_lease($1, $2, $3, $4, $5, $6, $7, $8, $9)")
                .bind(APPS[lane % 2])
                .bind(i16::try_from(lane / 2).unwrap())
                .bind(self.name())
                .bind(from.0)
                .bind(from.1)
                .bind(watermark.low_lease_id)
                .bind(self.dice.random_range(1..=16))
                .bind(LEASE_TTL.as_secs_f64())
                .bind(start)
                .fetch_all(&mut self.session)
                .await
                .unwrap();
        if let Some(Leased {
            id: Some(id),
            due: Some(due),
            low_lease_id: Some(low),
            ..
        }) = rows.last()
        {
            watermark.at = (*due, *id);
            watermark.low_lease_id = *low;
        }
        // A row without an id says that only losers of keys were met.
        rows.into_iter().filter(|row| row.id.is_some()).collect()
    }

    async fn deliver(
        &mut self,
        appid: &str,
        rows: Vec<Leased>,
        mut requested_at: Instant,
        mut started: bool,
    ) {
        let lease = Lease {
            appid: appid.to_owned(),
            worker: self.name(),
            lease_id: rows[0].lease_id.unwrap(),
            low_lease_id: 0,
            ids: rows.iter().map(|row| row.id.unwrap()).collect(),
        };
        let mut started_at: Option<DateTime<Utc>> = rows[0].started_at;
        if !started || self.dice.random_bool(0.5) {
            requested_at = Instant::now();
            started_at = sqlx::query_scalar("select wxnotify_start($1, $2, $3, $4)")
                .bind(appid)
                .bind(lease.lease_id)
                .bind(&lease.worker)
                .bind(LEASE_TTL.as_secs_f64())
                .fetch_one(&mut self.session)
                .await
                .unwrap();
            started = started_at.is_some();
        }
        if !started {
            return;
        }
        let stops_after = if self.fault(3.0) {
            self.dice.random_range(0..=rows.len())
        } else {
            usize::MAX
        };
        let outcomes = self.send_all(&lease, &rows, requested_at, stops_after);
        if stops_after <= rows.len() {
            self.vanish();
            return;
        }
        pause(&mut self.dice, 20).await;
        if self.fault(2.0) {
            sleep(LEASE_TTL * 2).await;
        }
        let given_back = Utc::now();
        for send in self
            .stage
            .truth()
            .sends
            .iter_mut()
            .rev()
            .take(2000)
            .filter(|send| send.lease_id == lease.lease_id)
        {
            send.until = send.until.min(given_back);
        }
        self.in_hand.push((lease, started_at, outcomes));
        if self.dice.random_bool(0.6) {
            self.settle_in_hand().await;
        }
    }

    /// Settles what is in hand: one lease by itself, several in one call and then what it left.
    async fn settle_in_hand(&mut self) {
        let mut delivered = std::mem::take(&mut self.in_hand);
        if delivered.len() > 1 {
            let settles: Vec<_> = delivered
                .iter()
                .map(|(lease, _, outcomes)| (lease.clone(), outcomes.clone()))
                .collect();
            let answers = settle_together(&mut self.session, &settles).await.unwrap();
            for ((lease, started_at, outcomes), answer) in delivered.iter_mut().zip(answers) {
                match answer {
                    Some(rest) => outcomes.retain(|outcome| rest.contains(&outcome.id)),
                    None => {
                        self.offer_late(lease, *started_at, outcomes).await;
                        outcomes.clear();
                    }
                }
            }
            delivered.retain(|(_, _, outcomes)| !outcomes.is_empty());
        }
        for (lease, started_at, outcomes) in delivered {
            self.settle_all(&lease, started_at, outcomes).await;
        }
    }

    /// Sends the rows of a lease, up to `stops_after` of them, and returns what the worker believes of each.
    fn send_all(
        &mut self,
        lease: &Lease,
        rows: &[Leased],
        requested_at: Instant,
        stops_after: usize,
    ) -> Vec<Outcome> {
        let stage = self.stage.clone();
        let mut truth = stage.truth();
        let mut outcomes = Vec::new();
        for row in rows.iter().take(stops_after) {
            let id = row.id.unwrap();
            let now = Utc::now();
            let left = (LEASE_TTL - LEASE_MARGIN).checked_sub(requested_at.elapsed());
            if left.is_none() || self.fault(2.0) {
                outcomes.push(Outcome::of(id, "release"));
                continue;
            }
            if row.expire_at.is_some_and(|end| end <= now) {
                outcomes.push(Outcome::of(id, "expired"));
                continue;
            }
            let fate = if stage.faulty.load(Ordering::Relaxed) {
                self.dice.random_range(0..100)
            } else {
                0
            };
            let delivered = fate < 70 || (85..90).contains(&fate);
            truth.msgids += 1;
            let msgid = delivered.then_some(truth.msgids);
            let version = row
                .data
                .as_ref()
                .unwrap()
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|part| part.parse().ok())
                .next_back();
            if fate < 97 {
                truth.sends.push(Send {
                    id,
                    appid: lease.appid.clone(),
                    openid: row.openid.clone().unwrap(),
                    template_id: row.template_id.clone().unwrap(),
                    lease_id: lease.lease_id,
                    version: version.unwrap(),
                    at: now,
                    until: now
                        + TimeDelta::from_std(left.unwrap_or_default() + LEASE_MARGIN).unwrap(),
                    delivered: msgid,
                });
            }
            outcomes.push(match fate {
                0..70 => Outcome {
                    msgid,
                    ..Outcome::sent(id)
                },
                70..85 => Outcome {
                    delay_secs: self.dice.random_range(0.0..0.3),
                    ..Outcome::retry(id)
                },
                85..93 => Outcome::doubt(id),
                93..97 => Outcome::dead(id, 40003, "gone"),
                // Refused before it was a message: no attempt.
                _ => Outcome {
                    delay_secs: 0.1,
                    waiting_for: Some("user"),
                    ..Outcome::of(id, "park")
                },
            });
        }
        outcomes
    }

    async fn settle_all(
        &mut self,
        lease: &Lease,
        started_at: Option<DateTime<Utc>>,
        mut outcomes: Vec<Outcome>,
    ) {
        if outcomes.len() > 1 && self.dice.random_bool(0.2) {
            let part = outcomes.len() / 2;
            settle(&mut self.session, lease, false, &outcomes[..part])
                .await
                .unwrap();
            if self.fault(5.0) {
                // It vanished between the two halves.
                self.vanish();
                return;
            }
            // Saying it again must not hurt: the second settle repeats the first one's outcomes.
        }
        loop {
            match settle(&mut self.session, lease, true, &outcomes)
                .await
                .unwrap()
            {
                None => return self.offer_late(lease, started_at, &outcomes).await,
                Some(rest) if rest.is_empty() => return,
                Some(rest) => outcomes.retain(|outcome| rest.contains(&outcome.id)),
            }
            pause(&mut self.dice, 10).await;
        }
    }

    async fn offer_late(
        &mut self,
        lease: &Lease,
        started_at: Option<DateTime<Utc>>,
        outcomes: &[Outcome],
    ) {
        let Some(started_at) = started_at else { return };
        for outcome in outcomes
            .iter()
            .filter(|outcome| ["sent", "retry", "dead"].contains(&outcome.verdict))
        {
            sqlx::query(
                "select wxnotify_offer_late_reply($1, $2, $3, $4, $5, $6, $7, $8, $9, null, $10)",
            )
            .bind(&lease.appid)
            .bind(outcome.id)
            .bind(lease.lease_id)
            .bind(started_at)
            .bind(&lease.worker)
            .bind(outcome.verdict == "sent")
            .bind(outcome.verdict == "dead")
            .bind(outcome.errcode)
            .bind(&outcome.errmsg)
            .bind(outcome.msgid)
            .execute(&mut self.session)
            .await
            .unwrap();
        }
    }
}

/// Runs every actor for a while, then lets the queue run dry without faults.
async fn hammer(seed: u64, span: Duration, mutant: Option<&Mutant>) -> Arc<Stage> {
    let queue = Queue::new().await;
    if let Some(mutant) = mutant {
        mutant.apply(&queue).await;
    }
    queue.register(APPS[1]).await;
    let stage = Arc::new(Stage {
        queue,
        truth: Mutex::default(),
        running: AtomicBool::new(true),
        faulty: AtomicBool::new(true),
    });
    let mut pinned = stage.queue.session().await;
    run(&mut pinned, "begin isolation level repeatable read").await;
    run(&mut pinned, "select from pending_notifications").await;

    let mut actors = JoinSet::new();
    let mut seeds = seed..;
    let mut dice = || StdRng::seed_from_u64(seeds.next().unwrap());
    for _ in 0..3 {
        actors.spawn(produce(stage.clone(), dice()));
    }
    for number in 0..6 {
        let session = stage.queue.session().await;
        let worker = Worker {
            stage: stage.clone(),
            session,
            dice: dice(),
            number,
            epoch: 1,
            in_hand: Vec::new(),
        };
        actors.spawn(worker.work());
    }
    for _ in 0..2 {
        actors.spawn(rescue(stage.clone(), dice()));
        actors.spawn(tidy_and_weigh(stage.clone(), dice()));
    }
    for editor in 0..2 {
        actors.spawn(edit(stage.clone(), dice(), editor));
    }
    actors.spawn(cancel(stage.clone(), dice()));
    actors.spawn(reschedule(stage.clone(), dice()));
    actors.spawn(arm(stage.clone(), dice()));
    actors.spawn(operate(stage.clone(), dice()));
    actors.spawn(report_events(stage.clone(), dice()));
    actors.spawn(watch(stage.clone(), dice()));
    sleep(span).await;
    stage.running.store(false, Ordering::Relaxed);
    while let Some(ended) = actors.join_next().await {
        ended.unwrap();
    }
    run(&mut pinned, "commit").await;
    run_dry(&stage, dice()).await;
    compare(&stage).await;
    stage
}

/// Lets time pass and sends without faults until nothing but held credits is pending.
async fn run_dry(stage: &Arc<Stage>, dice: StdRng) {
    stage.faulty.store(false, Ordering::Relaxed);
    let queue = &stage.queue;
    // Every lease ends here and now, those of workers that have just crashed before their time.
    let now = Utc::now();
    for send in &mut stage.truth().sends {
        send.until = send.until.min(now);
    }
    let mut worker = Worker {
        stage: stage.clone(),
        session: queue.session().await,
        dice,
        number: 99,
        epoch: 1,
        in_hand: Vec::new(),
    };
    for round in 0..500 {
        queue.expire_leases().await;
        run(
            queue.pool(),
            &format!("select wxnotify_rescue({DOUBT_WINDOW_SECS}, {DOUBT_AGE_SECS})"),
        )
        .await;
        queue
            .force("update pending_notifications set due = least(clock_timestamp() - interval '1 ms', expire_at) where due < 'infinity' and not held")
            .await;
        // A held credit waits for nothing but its end: due before that, it would be sent.
        queue
            .force("update pending_notifications set due = now() - interval '1 ms', expire_at = now() - interval '1 ms' where held and expire_at > now()")
            .await;
        for lane in 0..6 {
            let appid = APPS[lane % 2];
            run(queue.pool(), &format!("select wxnotify_weigh('{appid}')")).await;
            run(
                queue.pool(),
                &format!("select wxnotify_tidy('{appid}', {}::smallint)", lane / 2),
            )
            .await;
            let requested_at = Instant::now();
            let rows = worker.lease(lane, &mut Watermark::new(), true).await;
            if !rows.is_empty() {
                worker.deliver(appid, rows, requested_at, true).await;
            }
        }
        let statement =
            "select count(*) from pending_notifications where not held or due < 'infinity'";
        let left: i64 = sqlx::query_scalar(statement)
            .fetch_one(queue.pool())
            .await
            .unwrap();
        if left == 0 && queue.leases().await == 0 {
            return;
        }
        assert!(round < 499, "{left} rows never end");
    }
}

async fn compare(stage: &Stage) {
    let pool = stage.queue.pool();
    let ended: Vec<Ended> = sqlx::query_as(
        "select id, status, settled_by, substring(data #>> '{thing1,value}' from '\\d+')::bigint as version, attempts, dedup_key,
             duplicate_of, in_doubt_since, msgid from notification_history",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let pending: Vec<i64> = sqlx::query_scalar("select id from pending_notifications")
        .fetch_all(pool)
        .await
        .unwrap();
    let deadlocks: i64 = sqlx::query_scalar(
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    let mut truth = stage.truth();
    if deadlocks > 0 {
        truth.violations.push(format!("{deadlocks} deadlocks"));
    }
    truth.compare(&ended, &pending.into_iter().collect::<HashSet<_>>());
    let mut statuses: Vec<&str> = ended.iter().map(|row| row.status.as_str()).collect();
    statuses.sort_unstable();
    let counts = statuses
        .chunk_by(|a, b| a == b)
        .map(|chunk| format!("{} {}", chunk.len(), chunk[0]))
        .collect::<Vec<_>>();
    println!(
        "{} rows, {} sends: {}",
        truth.rows.len(),
        truth.sends.len(),
        counts.join(", ")
    );
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_ends_once_and_as_the_truth_says_whoever_does_what() {
    let seed = setting("WXNOTIFY_HAMMER_SEED", 7);
    let span = Duration::from_secs(setting("WXNOTIFY_HAMMER_SECS", 15));
    let stage = hammer(seed, span, None).await;

    let truth = stage.truth();
    let first = truth
        .violations
        .iter()
        .take(20)
        .cloned()
        .collect::<Vec<_>>();
    assert!(
        first.is_empty(),
        "seed {seed}: {} violations:\n{}",
        truth.violations.len(),
        first.join("\n")
    );
    let sends = truth.sends.len();
    assert!(sends > 100, "only {sends} sends: nothing was hammered");
    let ids: HashSet<i64> = truth.sends.iter().map(|send| send.id).collect();
    assert!(ids.len() < sends, "nothing was ever sent again");
}

/// A hammer that cannot fail is worthless: it must notice when the kernel lacks a rule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hammer_notices_a_missing_rule() {
    let seed = setting("WXNOTIFY_HAMMER_SEED", 7);
    for mutant in [mutants::NO_ROW_LOCK, mutants::CLOSE_WITHOUT_LOOKING] {
        let mut violations = 0;
        for seed in seed..seed + 5 {
            let stage = hammer(seed, Duration::from_secs(3), Some(&mutant)).await;
            violations = stage.truth().violations.len();
            if violations > 0 {
                break;
            }
        }
        assert!(
            violations > 0,
            "{} without {:?} went unnoticed",
            mutant.function,
            mutant.find
        );
    }
}
