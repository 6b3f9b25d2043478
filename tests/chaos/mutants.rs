//! A checker that finds nothing is worth nothing. Each test takes one rule out of the kernel, runs real workers against it,
//! and demands that the comparison finds the harm that the rule prevents.
//!
//! No test hopes for load: each brings about the very circumstance its rule exists for and waits for states, not for times. The
//! last test plays the same circumstances on the kernel as it is, which must stay clean.

use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use wxnotify::simulate::{Action, Rule};

use crate::checker::Kind;
use crate::rows::{Rows, tell, until_ended};
use crate::run::{Outcome, plan, run, run_on};
use crate::stage::{Plan, Stage, until};

/// Pieces of a function's text and what stands in their place.
type Edits = &'static [(&'static str, &'static str)];

async fn mutate(stage: &Stage, function: &str, edits: Edits) {
    let mut connection = stage.connect().await;
    let mut text: String = sqlx::query_scalar("select pg_get_functiondef($1::regproc)")
        .bind(function)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    for (find, replace) in edits {
        assert_eq!(
            text.matches(find).count(),
            1,
            "{function} has no such piece: {find}"
        );
        text = text.replace(find, replace);
    }
    sqlx::query(AssertSqlSafe(text))
        .execute(&mut connection)
        .await
        .unwrap();
}

/// What a mutant leaves behind may never end: nobody waits long for it.
fn impatient() -> Plan {
    let mut plan = plan();
    plan.patience = Duration::from_secs(3);
    plan
}

/// Runs a mutant up to three times, until the checker finds one of `kinds`. The rule goes when the fault comes.
async fn is_caught(
    name: &str,
    kinds: &[Kind],
    plan: Plan,
    mutants: &[(&str, Edits)],
    mut fault: impl AsyncFnMut(&mut Stage) -> Duration,
) {
    let mut found = String::new();
    for again in 0..3 {
        let mut plan = plan.clone().rows(300);
        plan.seed += again;
        let mut stage = Stage::new(plan).await;
        stage.finish();
        let mut is_mutated = false;
        let outcome: Outcome = run_on(stage, 1, async |stage: &mut Stage| {
            if !is_mutated {
                is_mutated = true;
                for (function, edits) in mutants {
                    mutate(stage, function, edits).await;
                }
            }
            fault(stage).await
        })
        .await;
        found = outcome.verdict.summary();
        if outcome.verdict.count(kinds) > 0 {
            println!("mutant {name} is caught: {found}");
            let first = outcome
                .verdict
                .violations
                .iter()
                .find(|found| kinds.contains(&found.kind));
            println!("    {}", first.unwrap());
            return;
        }
    }
    panic!("mutant {name} went unnoticed; found only: {found}");
}

/// Waits until none of these leases is left.
async fn until_gone(connection: &mut PgConnection, leases: &[i64]) {
    until("these leases are gone", async || {
        let left: bool = sqlx::query_scalar(
            "select exists (select from notification_leases where lease_id = any ($1))",
        )
        .bind(leases)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        (!left).then_some(())
    })
    .await;
}

/// A producer's cancel of rows that become due, committed only when rows due after them were sent.
async fn cancel_slowly(stage: &mut Stage) -> Duration {
    let (mut producer, mut other) = (stage.connect().await, stage.connect().await);
    let soon = |users, count| Rows::of(users, count).lane(0).due_in_secs(2.0);
    let cancelled = soon("Cancel", 10).insert(&mut producer).await;
    let mut transaction = producer.begin().await.unwrap();
    let deleted: Vec<String> = sqlx::query_scalar(
        "delete from pending_notifications where business_ref = any ($1) returning business_ref",
    )
    .bind(&cancelled)
    .fetch_all(&mut *transaction)
    .await
    .unwrap();
    let behind = soon("Behind", 20).insert(&mut other).await;
    until_ended(&mut other, &behind).await;
    transaction.commit().await.unwrap();
    tell(stage, behind, false);
    tell(stage, cancelled, false);
    tell(stage, deleted, true);
    Duration::ZERO
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_row_lock_at_the_pick() {
    const EDITS: Edits = &[(
        "order by p.due, p.id + 0 limit p_rows for update of p skip locked",
        "order by p.due, p.id + 0 limit p_rows",
    )];
    is_caught(
        "no row lock",
        &[Kind::WrongStatus],
        impatient(),
        &[("wxnotify_lease_locked", EDITS)],
        cancel_slowly,
    )
    .await;
}

/// A pick in lane 1 that found one of the shared users waits before it writes its lease.
const PAUSE_IN_LANE_1: (&str, &str) = (
    "insert into notification_leases (appid, worker, ids,",
    "perform pg_sleep(0.2) where p_lane = 1 and exists (select from pending_notifications s where s.id = any (v_ids) and s.openid like 'oShared%');
     insert into notification_leases (appid, worker, ids,",
);

/// Some users have many rows in two lanes, so that each pick of a lane finds users who have rows in the other.
async fn share_users_between_lanes(stage: &mut Stage) -> Duration {
    let mut producer = stage.connect().await;
    let mut nonces = Vec::new();
    let mut transaction = producer.begin().await.unwrap();
    for lane in [0, 0, 1, 0, 0, 1, 0, 0, 1] {
        let rows = Rows::of("Shared", 24).lane(lane);
        nonces.extend(rows.insert(&mut transaction).await);
    }
    transaction.commit().await.unwrap();
    tell(stage, nonces.clone(), false);
    until_ended(&mut producer, &nonces).await;
    Duration::ZERO
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_lock_per_lane() {
    const EDITS: Edits = &[(
        "perform wxnotify_lock_app(p_appid);",
        "perform wxnotify_lock_app(p_appid || p_lane);",
    )];
    const MANY: Edits = &[(
        "hashtext(v_lane.appid)",
        "hashtext(v_lane.appid || v_lane.lane)",
    )];
    let mutants = [
        ("wxnotify_lease", EDITS),
        ("wxnotify_lease_many", MANY),
        ("wxnotify_lease_locked", &[PAUSE_IN_LANE_1]),
    ];
    is_caught(
        "lock per lane",
        &[Kind::AUserInTwoLeases],
        impatient().workers(3),
        &mutants,
        share_users_between_lanes,
    )
    .await;
}

/// The only worker stops with outcomes in its hands, just before it writes them, and goes on when its leases have lapsed.
async fn stop_before_a_settle(stage: &mut Stage) -> Duration {
    stage.kill(0).await;
    stage.spawn_with(0, &[("FAILPOINT", "stop/before:settle@2")]);
    stage.worker(0).until_stopped().await;
    let mut connection = stage.connect().await;
    let leases: Vec<i64> = sqlx::query_scalar("select lease_id from notification_leases")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    until("all leases have lapsed", async || {
        let lasting: bool = sqlx::query_scalar(
            "select exists (select from notification_leases where expires_at > clock_timestamp())",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        (!lasting).then_some(())
    })
    .await;
    stage.worker(0).signal(Signal::SIGCONT);
    until_gone(&mut connection, &leases).await;
    Duration::ZERO
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_clock_in_the_fence() {
    const EDITS: Edits = &[(
        "and worker = p_worker for update;",
        "and worker = p_worker and expires_at > clock_timestamp() for update;",
    )];
    is_caught(
        "clock in the fence",
        &[Kind::ADoubtThatWasNone],
        impatient().workers(1),
        &[("wxnotify_settle", EDITS)],
        stop_before_a_settle,
    )
    .await;
}

/// Leases of which some rows were settled and some were not, and the number of the worker that holds each.
const HALF_SETTLED: &str = "
select l.lease_id, substring(l.worker, '^w(\\d+)#')::int from notification_leases l
where l.started_at is not null and (select count(distinct p.last_lease is not distinct from l.lease_id) = 2 from pending_notifications p where p.id = any (l.ids))";

/// Kills a worker that has settled a part of a lease, some of its rows to be sent again much later, and waits for the rescue.
async fn kill_half_way_through_a_lease(stage: &mut Stage) -> Duration {
    for user in (1..=16).step_by(2) {
        let busy = Rule::send(Action::errcode(-1)).openid(format!("oHalf{user}"));
        stage.wechat.script(busy);
        let slow = Rule::send(Action::delay(Duration::from_millis(800)));
        stage
            .wechat
            .script(slow.openid(format!("oHalf{}", user + 1)));
    }
    let mut connection = stage.connect().await;
    let lease = loop {
        let rows = Rows::of("Half", 16).lane(0);
        let inserted = rows.insert(&mut connection).await;
        tell(stage, inserted, false);
        let (lease, worker): (i64, i32) = until("a lease is half settled", async || {
            sqlx::query_as(HALF_SETTLED)
                .fetch_optional(&mut connection)
                .await
                .unwrap()
        })
        .await;
        stage.kill(usize::try_from(worker - 1).unwrap()).await;
        // On a slow machine the other half may have been settled meanwhile: once more, then.
        let still: Vec<(i64, i32)> = sqlx::query_as(HALF_SETTLED)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        stage.revive();
        if still.iter().any(|(id, _)| *id == lease) {
            break lease;
        }
    };
    stage.wechat.clear_scripts();
    until_gone(&mut connection, &[lease]).await;
    Duration::ZERO
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_rescue_without_last_lease() {
    const EDITS: Edits = &[(
        "and p.last_lease is distinct from v_lease.lease_id for update skip locked",
        "for update skip locked",
    )];
    let plan = impatient()
        .set("WXNOTIFY_BACKOFF_BASE_SECS", "300")
        .set("WXNOTIFY_BACKOFF_CAP_SECS", "300");
    is_caught(
        "rescue without last_lease",
        &[Kind::ADoubtThatWasNone],
        plan,
        &[("wxnotify_rescue", EDITS)],
        kill_half_way_through_a_lease,
    )
    .await;
}

/// A producer's transaction, open still, whose rows have been due for more than a second, while rows inserted after them were sent.
async fn begin_early(stage: &mut Stage) -> (PgConnection, Vec<String>) {
    let (mut producer, mut other) = (stage.connect().await, stage.connect().await);
    sqlx::query("begin").execute(&mut producer).await.unwrap();
    let late = Rows::of("Late", 10).insert(&mut producer).await;
    let behind = Rows::of("Behind", 20).insert(&mut other).await;
    tell(stage, behind.clone(), false);
    until("the rows are overdue", async || {
        let overdue: bool = sqlx::query_scalar(
            "select bool_and(due < clock_timestamp() - interval '1.5 seconds') from pending_notifications where business_ref = any ($1)",
        )
        .bind(&late)
        .fetch_one(&mut producer)
        .await
        .unwrap();
        overdue.then_some(())
    })
    .await;
    until_ended(&mut other, &behind).await;
    (producer, late)
}

async fn commit_late(stage: &Stage, mut producer: PgConnection, late: Vec<String>) {
    sqlx::query("commit").execute(&mut producer).await.unwrap();
    tell(stage, late, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_watermark_that_never_goes_back() {
    const EDITS: Edits = &[(
        "p.due <= v_now and (p.due, p.id + 0) > (p_due, p_id)",
        "p.due <= v_now and (p.due, p.id + 0) > (greatest(p_due, v_now - interval '1 second'), p_id)",
    )];
    let mut is_over = false;
    is_caught(
        "watermark without rewind",
        &[Kind::NeverEnded],
        impatient(),
        &[],
        async |stage: &mut Stage| {
            if std::mem::replace(&mut is_over, true) {
                return Duration::ZERO;
            }
            let (producer, late) = begin_early(stage).await;
            // Not before: a slow machine would leave behind whatever it does not lease within a second.
            mutate(stage, "wxnotify_lease_locked", EDITS).await;
            commit_late(stage, producer, late).await;
            Duration::ZERO
        },
    )
    .await;
}

async fn nothing_else(stage: &mut Stage) -> Duration {
    stage.until_sends(50).await;
    Duration::ZERO
}

/// Of the leases with an odd number one row in eight is forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_settles_that_are_forgotten() {
    const EDITS: Edits = &[
        (
            "where u.id = any (v_lease.ids)) c;",
            "where u.id = any (v_lease.ids) and (u.id % 8 <> 0 or p_lease_id % 2 = 0)) c;",
        ),
        (
            "if v_settled < cardinality(v_lease.ids) then",
            "if false then",
        ),
    ];
    is_caught(
        "a settle forgotten",
        &[Kind::SentTwiceUnrecorded],
        plan(),
        &[("wxnotify_settle", EDITS)],
        nothing_else,
    )
    .await;
}

/// Replies are lost after the messages were accepted.
async fn lose_some_replies(stage: &mut Stage) -> Duration {
    for user in 1..=4 {
        let lost = Rule::send(Action::reset_after_credit()).openid(format!("oLost{user}"));
        stage.wechat.script(lost.once());
    }
    let mut producer = stage.connect().await;
    let lost = Rows::of("Lost", 4).lane(0).insert(&mut producer).await;
    tell(stage, lost.clone(), false);
    until_ended(&mut producer, &lost).await;
    Duration::ZERO
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_doubts_that_are_sent_again_at_once() {
    const EDITS: Edits = &[("p_window_secs * (1 + random() / 4)", "0")];
    let mutants = [("wxnotify_doubt_due", EDITS)];
    // Long enough that a slow machine's "at once" is too soon as well.
    let mut plan = impatient().set("WXNOTIFY_DOUBT_WINDOW_SECS", "30");
    plan.rules.doubt_window = Duration::from_secs(30);
    is_caught(
        "a doubt retried at once",
        &[Kind::ADoubtRetriedTooSoon],
        plan,
        &mutants,
        lose_some_replies,
    )
    .await;
}

/// The circumstances alone are no harm: what the mutants are caught by is the missing rule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_rule_in_place_the_same_circumstances_do_no_harm() {
    let plan = plan().workers(3).rows(300).without_doubts();
    let mut is_slowed = false;
    let outcome = run(plan, 1, async |stage: &mut Stage| {
        if !is_slowed {
            is_slowed = true;
            mutate(stage, "wxnotify_lease_locked", &[PAUSE_IN_LANE_1]).await;
        }
        cancel_slowly(stage).await;
        share_users_between_lanes(stage).await;
        let (producer, late) = begin_early(stage).await;
        commit_late(stage, producer, late).await;
        Duration::ZERO
    })
    .await;
    outcome.report("every_rule_in_place");
}
