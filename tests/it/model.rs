//! Random sequences of everything that producers, workers, operators and the clock can do, on a real Postgres, compared after
//! every step with [`reference`]: a small pure program that says what the queue should do. Failures shrink.
//!
//! A case is a mini-program of its own in one database, and the clock steps by ageing its rows. The short form runs in CI;
//! the long one is
//!
//!     WXNOTIFY_MODEL_CASES=1000000 WXNOTIFY_MODEL_SEED=7 cargo test --test it model::
//!
//! [`interleavings`] is the other half: concurrency, which sequences of whole statements cannot show.

mod interleavings;
mod reference;

use std::cell::RefCell;

use chrono::{DateTime, Utc};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::runtime::Runtime;

use crate::kernel::Queue;
use crate::kernel::mutants::{FAILURE_CLEARS_DOUBT, Mutant, RESCUE_WITHOUT_LAST_LEASE};
use reference::{
    DOUBT_AGE, DOUBT_WINDOW, EVENT_AHEAD, LEASE, Lease, Mistake, Model, Op, RETRY, Reply, Seen,
    Verdict, expire_at, send_at,
};

/// Sequences of the short form, and the most ops of one.
const CASES: u32 = 2_000;
const OPS: usize = 50;
const USERS: usize = 3;
const TEMPLATES: usize = 2;

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        2 => Just(Verdict::Skip),
        3 => Just(Verdict::Sent),
        1 => Just(Verdict::Refused),
        2 => Just(Verdict::NoCredit),
        3 => Just(Verdict::Retry),
        1 => Just(Verdict::Park),
        4 => Just(Verdict::Doubt),
        1 => Just(Verdict::Release),
        1 => Just(Verdict::Expired),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Sent),
        Just(Reply::Refused),
        Just(Reply::NotSent)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let number = 0..12_usize;
    let insert = (
        0..USERS,
        0..TEMPLATES,
        prop::bool::weighted(0.15),
        prop_oneof![4 => Just(0), 1 => 1..4_i64],
        prop_oneof![3 => Just(None), 2 => (1..5_i64).prop_map(Some)],
        prop_oneof![3 => Just(None), 1 => (0..2_usize).prop_map(Some)],
        prop::bool::weighted(0.3),
        1..4_i64,
    )
        .prop_map(
            |(user, template, held, send_in, expire_in, key, hold, attempts_max)| Op::Insert {
                user,
                template,
                held,
                send_in,
                expire_in,
                key,
                hold,
                attempts_max,
            },
        );
    let settle = (
        number.clone(),
        vec(verdict(), 1..4),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(lease, verdicts, close)| Op::Settle {
            lease,
            verdicts,
            close,
        });
    prop_oneof![
        // The way of most rows, often enough to be walked to its end.
        20 => insert,
        30 => (0..2_usize, prop::bool::weighted(0.9)).prop_map(|(worker, start)| Op::Lease { worker, start }),
        3 => number.clone().prop_map(Op::Start),
        2 => number.clone().prop_map(Op::Release),
        30 => settle,
        4 => (number.clone(), number.clone(), reply()).prop_map(|(lease, row, reply)| Op::LateReply { lease, row, reply }),
        6 => Just(Op::Rescue),
        6 => Just(Op::Tidy),
        5 => Just(Op::Weigh),
        6 => (0..USERS, 0..TEMPLATES, 0..3_i64, prop::bool::weighted(0.3))
            .prop_map(|(user, template, units_ago, known)| Op::Event { user, template, units_ago, known }),
        25 => (1..3_i64).prop_map(Op::Step),
        3 => (0..USERS, 0..TEMPLATES).prop_map(|(user, template)| Op::Arm { user, template }),
        2 => number.clone().prop_map(Op::Delete),
        2 => (number.clone(), 0..3_i64).prop_map(|(row, units)| Op::Postpone(row, units)),
        2 => number.clone().prop_map(Op::Cancel),
        2 => (number.clone(), 0..3_i64).prop_map(|(row, units)| Op::Reschedule(row, units)),
        2 => number.clone().prop_map(Op::Redrive),
        1 => number.clone().prop_map(Op::ConfirmSent),
        1 => number.clone().prop_map(Op::ConfirmNotSent),
        2 => number.prop_map(Op::RetryAnyway),
        1 => prop::option::of(1..3_i64).prop_map(Op::PauseApp),
        1 => Just(Op::ResumeApp),
        1 => (0..TEMPLATES).prop_map(Op::PauseTemplate),
        1 => (0..TEMPLATES).prop_map(Op::ResumeTemplate),
    ]
}

fn secs(ticks: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some thousand seconds")]
    let ticks = ticks as f64;
    ticks / 1000.0
}

/// One mini-program: the real queue beside the model of it.
struct Case<'a> {
    session: &'a mut PgConnection,
    app: String,
    model: Model,
    /// By how much its rows have been aged, in seconds.
    aged: f64,
    /// When each lease was started, and how far rows had been aged by then.
    starts: Vec<(i64, DateTime<Utc>, f64)>,
}

impl Case<'_> {
    async fn run(&mut self, statement: &str) {
        let statement = statement.replace("$app", &format!("'{}'", self.app));
        sqlx::raw_sql(AssertSqlSafe(statement.clone()))
            .execute(&mut *self.session)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{statement}"));
    }

    async fn number(&mut self, expression: &str) -> Option<i64> {
        let statement = format!(
            "select ({})::bigint",
            expression.replace("$app", &format!("'{}'", self.app))
        );
        sqlx::query_scalar(AssertSqlSafe(statement.clone()))
            .persistent(false)
            .fetch_one(&mut *self.session)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{statement}"))
    }

    fn at(&self, at: i64) -> String {
        format!(
            "clock_timestamp() + make_interval(secs => {})",
            secs(at - self.model.now)
        )
    }

    /// Does one thing on both sides; an error says how they differ.
    async fn step(&mut self, op: &Op) -> Result<(), String> {
        self.model.now += 1;
        match op {
            Op::Insert { user, .. } if !self.model.has_room(*user) => {}
            Op::Insert { .. } => self.insert(op).await,
            Op::Lease { worker, start } => self.lease(*worker, *start).await?,
            Op::Start(lease) => {
                if let Some(lease) = self.model.named_lease(*lease) {
                    self.start(&lease).await;
                }
            }
            Op::Release(lease) => {
                if let Some(lease) = self.model.named_lease(*lease) {
                    self.number(&format!(
                        "select wxnotify_release($app, {}, 'w')::int",
                        lease.id
                    ))
                    .await;
                    if !self.model.is_started(lease.id) {
                        self.model.leases.retain(|held| held.id != lease.id);
                    }
                }
            }
            Op::Settle {
                lease,
                verdicts,
                close,
            } => {
                if let Some(lease) = self.model.named_lease(*lease) {
                    self.settle(&lease, verdicts, *close).await;
                }
            }
            Op::LateReply { lease, row, reply } => self.late_reply(*lease, *row, *reply).await,
            Op::Event {
                user,
                template,
                units_ago,
                known,
            } => {
                self.event(*user, *template, *units_ago, *known).await;
            }
            Op::Redrive(row) => {
                if let Some(id) = self
                    .model
                    .named(*row)
                    .filter(|id| self.model.has_room(self.model.user_of(*id)))
                {
                    let new_id = self
                        .number(&format!("select new_id from redrive_notifications(array[{id}]) where result like 'redriven%'"))
                        .await;
                    if new_id.is_some() != self.model.may_redrive(id) {
                        return Err(format!("redrive of {id} answered {new_id:?}"));
                    }
                    if let Some(new_id) = new_id {
                        self.model.redrive(id, new_id);
                    }
                }
            }
            Op::Delete(row)
            | Op::Postpone(row, _)
            | Op::Cancel(row)
            | Op::Reschedule(row, _)
            | Op::ConfirmSent(row)
            | Op::ConfirmNotSent(row)
            | Op::RetryAnyway(row) => {
                if let Some(id) = self.model.named(*row) {
                    self.change(id, op).await;
                    self.model.apply_to(id, op);
                }
            }
            _ => {
                self.act(op).await?;
                self.model.apply(op);
            }
        }
        self.compare(false).await
    }

    async fn insert(&mut self, op: &Op) {
        let &Op::Insert {
            user,
            template,
            held,
            send_in,
            expire_in,
            key,
            hold,
            attempts_max,
        } = op
        else {
            unreachable!("an insert")
        };
        let now = self.model.now;
        let statement = format!(
            "insert into pending_notifications (appid, openid, template_id, data, held, send_at, expire_at, dedup_key, on_doubt, attempts_max)
             values ('{}', '{}-user-{user}', 'template-{template}', '{{\"thing1\": \"x\"}}', {held}, {}, {}, {}, '{}', {attempts_max}) returning id",
            self.app,
            self.app,
            self.at(send_at(now, send_in)),
            expire_in.map_or("null".to_owned(), |units| self.at(expire_at(now, units))),
            key.map_or("null".to_owned(), |key| format!("'key-{key}'")),
            if hold { "hold" } else { "retry" },
        );
        let id: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
            .persistent(false)
            .fetch_one(&mut *self.session)
            .await
            .unwrap();
        self.model.insert(id, op);
    }

    /// Parks of less than a minute are over: the model has none.
    async fn hasten(&mut self) {
        self.run(
            "set session_replication_role = replica;
             update pending_notifications set due = least(clock_timestamp(), expire_at)
             where appid = $app and waiting_for in ('user', 'pair', 'duplicate') and due between clock_timestamp() and clock_timestamp() + interval '100 s';
             set session_replication_role = default",
        )
        .await;
    }

    async fn lease(&mut self, worker: usize, start: bool) -> Result<(), String> {
        self.hasten().await;
        type Leased = (Option<i64>, Option<i64>, Option<DateTime<Utc>>);
        let rows: Vec<Leased> = sqlx::query_as(
            "select lease_id, id, started_at from wxnotify_lease($1, 1::smallint, 'w', '-infinity', 0, 0, $2, $3, $4)",
        )
        .bind(&self.app)
        .bind(64 - i32::try_from(worker).unwrap_or(0))
        .bind(secs(LEASE))
        .bind(start)
        .fetch_all(&mut *self.session)
        .await
        .unwrap();
        let ids: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
        let leased = rows.first().and_then(|row| row.0).map(|lease| (lease, ids));
        if let (Some((lease, _)), Some(Some(started))) = (&leased, rows.first().map(|row| row.2)) {
            self.starts.push((*lease, started, self.aged));
        }
        self.model.lease(leased, start)
    }

    async fn start(&mut self, lease: &Lease) {
        let started: Option<DateTime<Utc>> =
            sqlx::query_scalar("select wxnotify_start($1, $2, 'w', $3)")
                .bind(&self.app)
                .bind(lease.id)
                .bind(secs(LEASE))
                .fetch_one(&mut *self.session)
                .await
                .unwrap();
        if !self.model.is_started(lease.id) {
            self.starts.push((lease.id, started.unwrap(), self.aged));
        }
        self.model.start(lease.id);
    }

    /// Outcomes of every row of the lease, also of those that were settled before: those must change nothing.
    async fn settle(&mut self, lease: &Lease, verdicts: &[Verdict], close: bool) {
        if !self.model.is_started(lease.id) {
            return;
        }
        let outcomes: Vec<(i64, Verdict, i64)> = lease
            .rows
            .iter()
            .zip(verdicts.iter().cycle())
            .map(|(id, verdict)| (*id, *verdict, self.model.fresh_msgid()))
            .collect();
        let (sent, rest): (Vec<_>, Vec<_>) = outcomes
            .iter()
            .filter(|outcome| outcome.1 != Verdict::Skip)
            .partition(|outcome| outcome.1 == Verdict::Sent);
        let each = |of: fn(Verdict) -> Option<&'static str>| {
            rest.iter()
                .map(|outcome: &&(i64, Verdict, i64)| of(outcome.1))
                .collect::<Vec<_>>()
        };
        let errcodes: Vec<i64> = rest
            .iter()
            .map(|outcome| match outcome.1 {
                Verdict::NoCredit => 43101,
                Verdict::Refused => 47003,
                _ => -1,
            })
            .collect();
        sqlx::query(
            "select wxnotify_settle($1, $2, 'w', $3, $4, $5, $6, $7, array_fill($8::float8, array[n]), $9, $10,
                 array_fill(null::text, array[n]), array_fill(null::text, array[n]), array_fill(null::smallint, array[n]),
                 array_fill(null::text, array[n]), array_fill(null::int, array[n]), array_fill('unknown'::text, array[n]), $11, $12)
             from cardinality($6::bigint[]) n",
        )
        .bind(&self.app)
        .bind(lease.id)
        .bind(close)
        .bind(sent.iter().map(|outcome| outcome.0).collect::<Vec<_>>())
        .bind(sent.iter().map(|outcome| outcome.2).collect::<Vec<_>>())
        .bind(rest.iter().map(|outcome| outcome.0).collect::<Vec<_>>())
        .bind(each(|verdict| {
            Some(match verdict {
                Verdict::Retry => "retry",
                Verdict::Park => "park",
                Verdict::Doubt => "doubt",
                Verdict::Release => "release",
                Verdict::Expired => "expired",
                _ => "dead",
            })
        }))
        .bind(secs(RETRY))
        .bind(each(|verdict| (verdict == Verdict::Park).then_some("user")))
        .bind(errcodes)
        .bind(secs(DOUBT_WINDOW))
        .bind(secs(DOUBT_AGE))
        .execute(&mut *self.session)
        .await
        .unwrap();
        let open = self.model.unsettled(lease);
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .filter(|outcome| open.contains(&outcome.0))
            .collect();
        self.model.settle(lease, &outcomes, close);
    }

    async fn late_reply(&mut self, lease: usize, row: usize, reply: Reply) {
        if self.model.lost.is_empty() {
            return;
        }
        let lease = self.model.lost[lease % self.model.lost.len()].clone();
        let id = lease.rows[row % lease.rows.len()];
        let msgid = self.model.fresh_msgid();
        let &(_, started, aged) = self
            .starts
            .iter()
            .find(|start| start.0 == lease.id)
            .expect("it was started");
        sqlx::query(
            "select wxnotify_offer_late_reply($1, $2, $3, $4::timestamptz - make_interval(secs => $5), 'w', $6, $7, $8, null, null, $9)",
        )
        .bind(&self.app)
        .bind(id)
        .bind(lease.id)
        .bind(started)
        .bind(self.aged - aged)
        .bind(reply == Reply::Sent)
        .bind(reply == Reply::Refused)
        .bind((reply == Reply::Refused).then_some(47003_i64))
        .bind((reply == Reply::Sent).then_some(msgid))
        .execute(&mut *self.session)
        .await
        .unwrap();
        self.model.late_reply(&lease, id, reply, msgid);
    }

    async fn event(&mut self, user: usize, template: usize, units_ago: i64, known: bool) {
        let owned = self.model.owned_msgid(user, template).filter(|_| known);
        let msgid = owned.unwrap_or_else(|| self.model.fresh_msgid());
        let at = self.at(self.model.now - units_ago * reference::UNIT + EVENT_AHEAD);
        self.run(&format!(
            "insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at)
             values ($app, 'subscribe_msg_sent_event', $app || '-user-{user}', 'template-{template}', {msgid}, {at}) on conflict do nothing"
        ))
        .await;
        self.model.event(user, template, units_ago, msgid);
    }

    /// What a producer or operator does to one row.
    async fn change(&mut self, id: i64, op: &Op) {
        let now = self.model.now;
        let statement = match op {
            Op::Delete(_) => format!("delete from pending_notifications where id = {id}"),
            Op::Postpone(_, units) => format!(
                "update pending_notifications set send_at = {} where id = {id}",
                self.at(send_at(now, *units))
            ),
            Op::Cancel(_) => format!("select cancel_notification({id})"),
            Op::Reschedule(_, units) => {
                format!(
                    "select reschedule_notification({id}, {})",
                    self.at(send_at(now, *units))
                )
            }
            Op::ConfirmSent(_) => format!("select confirm_sent({id})"),
            Op::ConfirmNotSent(_) => format!("select confirm_not_sent({id})"),
            _ => format!("select retry_anyway({id})"),
        };
        self.run(&statement).await;
    }

    async fn act(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Arm { user, template } => {
                let armed = self
                    .number(&format!("select arm($app, $app || '-user-{user}', 'template-{template}', '{{\"thing1\": \"y\"}}')"))
                    .await;
                let expected = self.model.armed(*user, *template);
                if armed != expected {
                    return Err(format!("arm took {armed:?}, not {expected:?}"));
                }
            }
            Op::PauseApp(None) => self.run("select pause_app_by_operator($app)").await,
            Op::PauseApp(Some(units)) => {
                let until = self.at(expire_at(self.model.now, *units));
                self.run(&format!("select pause_app_by_operator($app, {until})"))
                    .await;
            }
            Op::ResumeApp => self.run("select resume_app($app)").await,
            Op::PauseTemplate(template) => {
                self.run(&format!(
                    "select pause_template_by_operator($app, 'template-{template}')"
                ))
                .await;
            }
            Op::ResumeTemplate(template) => {
                self.run(&format!(
                    "select resume_template($app, 'template-{template}')"
                ))
                .await;
            }
            Op::Rescue => {
                let (window, age) = (secs(DOUBT_WINDOW), secs(DOUBT_AGE));
                self.run(&format!("select wxnotify_rescue({window}, {age})"))
                    .await;
            }
            Op::Tidy => {
                self.hasten().await;
                self.run("select wxnotify_tidy($app, 1::smallint)").await;
            }
            Op::Weigh => self.run("select wxnotify_weigh($app)").await,
            Op::Step(units) => self.age(secs(units * reference::UNIT)).await,
            other => unreachable!("{other:?} is done elsewhere"),
        }
        Ok(())
    }

    /// The clock goes on by letting everything be older. No trigger fires.
    async fn age(&mut self, by: f64) {
        let by_secs = format!("make_interval(secs => {by})");
        self.run(&format!(
            "set session_replication_role = replica;
             update pending_notifications set due = due - {by_secs}, send_at = send_at - {by_secs}, expire_at = expire_at - {by_secs},
                 created_at = created_at - {by_secs}, in_doubt_since = in_doubt_since - {by_secs}, last_attempt_at = last_attempt_at - {by_secs}
             where appid = $app;
             update notification_leases set leased_at = leased_at - {by_secs}, started_at = started_at - {by_secs}, expires_at = expires_at - {by_secs}
             where appid = $app;
             update wechat_events set occurred_at = occurred_at - {by_secs}, received_at = received_at - {by_secs} where appid = $app;
             update notification_history set finished_at = finished_at - {by_secs}, expire_at = expire_at - {by_secs},
                 in_doubt_since = in_doubt_since - {by_secs} where appid = $app;
             update wechat_apps set paused_until = paused_until - {by_secs} where appid = $app;
             update wechat_templates set paused_until = paused_until - {by_secs} where appid = $app;
             set session_replication_role = default"
        ))
        .await;
        self.aged += by;
    }

    /// After every op what is stored, after the last one what the view `notifications` shows: its plan takes longer than the op.
    async fn compare(&mut self, whole: bool) -> Result<(), String> {
        const SHOWN: &str = "select id, status, attempts, in_doubt_since is not null, settled_by from notifications where appid = $1 order by id";
        const STORED: &str = "select id, 'pending', attempts, in_doubt_since is not null, null from pending_notifications where appid = $1
             union all select id, status, attempts, in_doubt_since is not null, settled_by from notification_history where appid = $1 order by id";
        let rows: Vec<(i64, String, i16, bool, Option<String>)> =
            sqlx::query_as(if whole { SHOWN } else { STORED })
                .bind(&self.app)
                .fetch_all(&mut *self.session)
                .await
                .unwrap();
        let real: Vec<Seen> = rows
            .into_iter()
            .map(|(id, status, attempts, in_doubt, settled_by)| Seen {
                id,
                status,
                attempts: attempts.into(),
                in_doubt,
                settled_by,
            })
            .collect();
        let mut expected = self.model.seen();
        if !whole {
            for row in expected.iter_mut().filter(|row| row.settled_by.is_none()) {
                "pending".clone_into(&mut row.status);
            }
        }
        if real == expected {
            return Ok(());
        }
        let differ: Vec<_> = real.iter().filter(|row| !expected.contains(row)).collect();
        let should: Vec<_> = expected.iter().filter(|row| !real.contains(row)).collect();
        Err(format!("the queue shows {differ:?}, the model {should:?}"))
    }

    async fn forget(&mut self) {
        self.run(
            "set session_replication_role = replica;
             delete from pending_notifications where appid = $app; delete from notification_history where appid = $app;
             delete from notification_leases where appid = $app; delete from notification_keys where appid = $app;
             delete from wechat_events where appid = $app; delete from wechat_templates where appid = $app;
             delete from wechat_apps where appid = $app;
             set session_replication_role = default",
        )
        .await;
    }
}

/// Runs one sequence on a mini-program of its own.
async fn run_case(
    session: &mut PgConnection,
    app: String,
    ops: &[Op],
    mistake: Mistake,
) -> Result<(), String> {
    let mut case = Case {
        session,
        app,
        model: Model::new(mistake),
        aged: 0.0,
        starts: Vec::new(),
    };
    case.run("insert into wechat_apps (appid) values ($app)")
        .await;
    let mut result = Ok(());
    for (number, op) in ops.iter().enumerate() {
        if let Err(difference) = case.step(op).await {
            result = Err(format!("after op {number}, {op:?}: {difference}"));
            break;
        }
    }
    if result.is_ok() {
        result = case
            .compare(true)
            .await
            .map_err(|difference| format!("in the view: {difference}"));
    }
    case.forget().await;
    result
}

/// Runs `cases` sequences; gives the smallest failing one, if any.
fn explore(
    cases: u32,
    seed: u8,
    mutant: Option<&Mutant>,
    mistake: Mistake,
) -> Option<(Vec<Op>, String)> {
    let runtime = Runtime::new().unwrap();
    let (queue, session) = runtime.block_on(async {
        let queue = Queue::new().await;
        if let Some(mutant) = mutant {
            mutant.apply(&queue).await;
        }
        let mut session = PgConnection::connect(queue.url()).await.unwrap();
        // The view is planned once, not after every op; nothing here need survive a crash.
        sqlx::raw_sql(
            "set plan_cache_mode = force_generic_plan; set synchronous_commit = off; set jit = off",
        )
        .execute(&mut session)
        .await
        .unwrap();
        (queue, session)
    });
    let session = RefCell::new((session, 0_u64));
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 800,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&vec(op(), 1..OPS), |ops| {
        let (session, count) = &mut *session.borrow_mut();
        *count += 1;
        let case = run_case(session, format!("wx-model-{count}"), &ops, mistake);
        runtime.block_on(case).map_err(TestCaseError::fail)
    });
    runtime.block_on(async { drop(queue) });
    match result {
        Ok(()) => None,
        Err(TestError::Fail(why, ops)) => Some((ops, why.to_string())),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn the_queue_does_what_the_model_says_whatever_the_sequence() {
    let (cases, seed) = (
        setting("WXNOTIFY_MODEL_CASES", CASES),
        setting("WXNOTIFY_MODEL_SEED", 1_u8),
    );
    // Two halves beside one another.
    let halves = [seed, seed.wrapping_add(100)].map(|seed| {
        std::thread::spawn(move || explore(cases.div_ceil(2), seed, None, Mistake::None))
    });
    for half in halves {
        if let Some((ops, why)) = half.join().unwrap() {
            panic!("{why}\n{ops:#?}");
        }
    }
}

/// The comparison must be able to fail: a kernel with one rule taken out, and a model that is wrong, are found out, and what
/// is left after shrinking is short.
#[test]
fn a_mutant_and_a_wrong_model_are_found_out() {
    let wrongs: [(&str, Option<&'static Mutant>, Mistake); 4] = [
        (
            "a later failure clears a doubt",
            Some(&FAILURE_CLEARS_DOUBT),
            Mistake::None,
        ),
        (
            "rescue doubts what was settled",
            Some(&RESCUE_WITHOUT_LAST_LEASE),
            Mistake::None,
        ),
        ("a doubt may end expired", None, Mistake::DoubtsExpire),
        ("a retry counts no attempt", None, Mistake::RetriesAreFree),
    ];
    for (what, mutant, mistake) in wrongs {
        let (ops, why) =
            explore(2_000, 3, mutant, mistake).unwrap_or_else(|| panic!("not found: {what}"));
        assert!(ops.len() <= 10, "{what}: {why}\n{ops:#?}");
    }
}
