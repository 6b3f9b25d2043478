//! A checker that finds nothing is worth nothing. Each test takes one rule out of the kernel, runs real workers against it,
//! and demands that the comparison finds the harm that the rule prevents.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use wxnotify::simulate::{Action, Rule};

use nix::sys::signal::Signal;

use crate::checker::Kind;
use crate::run::{Outcome, pass, plan, run_on};
use crate::stage::{Plan, Stage};

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

/// Runs a mutant up to three times, until the checker finds one of `kinds`.
async fn is_caught(
    name: &str,
    kinds: &[Kind],
    plan: Plan,
    mutants: &[(&str, Edits)],
    mut fault: impl AsyncFnMut(&mut Stage) -> Duration,
) {
    let mut found = String::new();
    for again in 0..3 {
        let mut plan = plan.clone().rows(600);
        plan.seed += again;
        plan.patience = Duration::from_secs(12);
        let mut stage = Stage::new(plan).await;
        for (function, edits) in mutants {
            mutate(&stage, function, edits).await;
        }
        stage.finish();
        let outcome: Outcome = run_on(stage, 2, &mut fault).await;
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

async fn nothing_else(_: &mut Stage) -> Duration {
    pass(1_000).await;
    Duration::ZERO
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_row_lock_at_the_pick() {
    const EDITS: Edits = &[(
        "order by p.due, p.id + 0 limit p_rows for update of p skip locked",
        "order by p.due, p.id + 0 limit p_rows",
    )];
    let mutants = [("wxnotify_lease_locked", EDITS)];
    is_caught(
        "no row lock",
        &[Kind::WrongStatus],
        plan(),
        &mutants,
        nothing_else,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "depends on the pace of the machine: make chaos"]
async fn with_a_lock_per_lane() {
    const EDITS: Edits = &[(
        "perform wxnotify_lock_app(p_appid);",
        "perform wxnotify_lock_app(p_appid || p_lane);",
    )];
    const MANY: Edits = &[(
        "hashtext(v_lane.appid)",
        "hashtext(v_lane.appid || v_lane.lane)",
    )];
    let mutants = [("wxnotify_lease", EDITS), ("wxnotify_lease_many", MANY)];
    let plan = plan().workers(3);
    is_caught(
        "lock per lane",
        &[Kind::AUserInTwoLeases],
        plan,
        &mutants,
        nothing_else,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_clock_in_the_fence() {
    const EDITS: Edits = &[(
        "and worker = p_worker for update;",
        "and worker = p_worker and expires_at > clock_timestamp() for update;",
    )];
    let mutants = [("wxnotify_settle", EDITS)];
    let kinds = [Kind::ADoubtThatWasNone];
    is_caught(
        "clock in the fence",
        &kinds,
        plan().workers(1),
        &mutants,
        async |stage: &mut Stage| {
            // Nobody else is there to rescue what the frozen worker holds.
            stage.worker(0).signal(Signal::SIGSTOP);
            pass(6_800).await;
            stage.worker(0).signal(Signal::SIGCONT);
            pass(500).await;
            Duration::ZERO
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_rescue_without_last_lease() {
    const EDITS: Edits = &[(
        "and p.last_lease is distinct from v_lease.lease_id for update skip locked",
        "for update skip locked",
    )];
    let mutants = [("wxnotify_rescue", EDITS)];
    let plan = plan()
        .set("WXNOTIFY_BACKOFF_BASE_SECS", "20")
        .set("WXNOTIFY_BACKOFF_CAP_SECS", "20");
    is_caught(
        "rescue without last_lease",
        &[Kind::ADoubtThatWasNone],
        plan,
        &mutants,
        async |stage: &mut Stage| {
            stage
                .wechat
                .script(Rule::send(Action::errcode(-1)).probability(0.3).times(60));
            stage
                .wechat
                .script(Rule::send(Action::delay(Duration::from_millis(700))).probability(0.2));
            pass(700).await;
            stage.kill(0).await;
            stage.wechat.clear_scripts();
            stage.revive();
            pass(8_000).await;
            Duration::ZERO
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_watermark_that_never_goes_back() {
    const EDITS: Edits = &[(
        "p.due <= v_now and (p.due, p.id + 0) > (p_due, p_id)",
        "p.due <= v_now and (p.due, p.id + 0) > (greatest(p_due, v_now - interval '1 second'), p_id)",
    )];
    let mutants = [("wxnotify_lease_locked", EDITS)];
    is_caught(
        "watermark without rewind",
        &[Kind::NeverEnded],
        plan(),
        &mutants,
        nothing_else,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_settles_that_are_forgotten() {
    const EDITS: Edits = &[
        (
            "where u.id = any (v_lease.ids)) c;",
            "where u.id = any (v_lease.ids) and u.id % 40 <> 0) c;",
        ),
        (
            "if v_settled < cardinality(v_lease.ids) then",
            "if false then",
        ),
    ];
    let mutants = [("wxnotify_settle", EDITS)];
    is_caught(
        "a settle forgotten",
        &[Kind::SentTwiceUnrecorded],
        plan(),
        &mutants,
        nothing_else,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_doubts_that_are_sent_again_at_once() {
    const EDITS: Edits = &[("p_doubt_window_secs * (1 + random() / 4)", "0")];
    let mutants = [
        ("wxnotify_settle_unsent", EDITS),
        ("wxnotify_rescue", EDITS),
    ];
    is_caught(
        "a doubt retried at once",
        &[Kind::ADoubtRetriedTooSoon],
        plan(),
        &mutants,
        async |stage: &mut Stage| {
            stage.wechat.script(
                Rule::send(Action::reset_after_credit())
                    .probability(0.01)
                    .times(8),
            );
            nothing_else(stage).await
        },
    )
    .await;
}
