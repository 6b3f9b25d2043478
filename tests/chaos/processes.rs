//! Workers that die, stop, and go on.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::RngExt;

use crate::rows::{Rows, tell};
use crate::run::{Outcome, pass, plan, run};
use crate::stage::{LEASE, Stage, until};

/// Until no lease of the workers' that were killed is left.
async fn until_rescued(stage: &mut Stage, victim: usize) -> Duration {
    let killed_at = Instant::now();
    let mut connection = stage.connect().await;
    let prefix = format!("w{}#%", victim + 1);
    let leases: Vec<(String, i64)> =
        sqlx::query_as("select appid, lease_id from notification_leases where worker like $1")
            .bind(&prefix)
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let ids: Vec<i64> = leases.iter().map(|lease| lease.1).collect();
    stage.revive();
    until("the dead worker's leases are taken over", async || {
        let left: i64 = sqlx::query_scalar(
            "select count(*) from notification_leases where lease_id = any ($1)",
        )
        .bind(&ids)
        .fetch_one(&mut connection)
        .await
        .ok()?;
        (left == 0).then_some(())
    })
    .await;
    killed_at.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9() {
    let outcome = run(plan().workers(3), 1, async |stage: &mut Stage| {
        pass(stage.dice.random_range(0..300)).await;
        let victim = stage.one_of_the_workers();
        stage.kill(victim).await;
        until_rescued(stage, victim).await
    })
    .await;
    let limit = LEASE + Duration::from_secs(3);
    assert!(outcome.recovery < limit, "{:?}", outcome.recovery);
    assert!(
        outcome.verdict.doubts > 0,
        "nobody was killed in mid-flight"
    );
    outcome.report("kill_9");
}

/// The most sends of one worker that are in flight at once: its `WXNOTIFY_CONCURRENCY`.
const IN_FLIGHT_MAX: usize = 8;

/// Waits until others have taken over every lease of a worker that is stopped.
async fn until_taken_over(stage: &Stage, number: usize) {
    let query = format!(
        "select count(*) from notification_leases where worker like 'w{}#%'",
        number + 1
    );
    until("a stopped worker's leases are taken over", async || {
        (stage.count(&query).await == 0).then_some(())
    })
    .await;
}

/// A worker that goes on may still make the requests it was about to make when it was stopped, and no others.
fn assert_few_are_late(outcome: &Outcome) {
    let most = IN_FLIGHT_MAX * outcome.faults as usize;
    let late = outcome.verdict.late;
    assert!(late <= most, "{late} late sends, {most} at most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_beyond_the_lease() {
    let outcome = run(plan(), 1, async |stage: &mut Stage| {
        pass(stage.dice.random_range(0..200)).await;
        let frozen = stage.one_of_the_workers();
        stage.worker(frozen).signal(Signal::SIGSTOP);
        until_taken_over(stage, frozen).await;
        // What was in doubt is due again, and others have sent it.
        pass(2_000).await;
        stage.worker(frozen).signal(Signal::SIGCONT);
        stage.until_sends_flow().await
    })
    .await;
    assert_few_are_late(&outcome);
    outcome.report("stopped_beyond_the_lease");
}

/// Stopped when its request to lease has left and the answer has not come, for longer than the lease it is given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_inside_lease() {
    let outcome = run(plan(), 1, async |stage: &mut Stage| {
        let frozen = stage.one_of_the_workers();
        stage.kill(frozen).await;
        let nth = stage.dice.random_range(2..9);
        let point = format!("stop/during:lease@{nth}");
        stage.spawn_with(frozen, &[("FAILPOINT", &point)]);
        stage.worker(frozen).until_stopped().await;
        until_taken_over(stage, frozen).await;
        pass(stage.dice.random_range(0..1_500)).await;
        stage.worker(frozen).signal(Signal::SIGCONT);
        stage.until_sends_flow().await
    })
    .await;
    assert_few_are_late(&outcome);
    outcome.report("stopped_inside_lease");
}

/// Stopped between the last look at the lease and the request, until the lease is in doubt: the request leaves all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_before_a_request() {
    let outcome = run(plan(), 1, async |stage: &mut Stage| {
        let frozen = stage.one_of_the_workers();
        stage.kill(frozen).await;
        let nth = stage.dice.random_range(1..20);
        let point = format!("stop/before:/cgi-bin/message/subscribe/send@{nth}");
        stage.spawn_with(frozen, &[("FAILPOINT", &point)]);
        stage.worker(frozen).until_stopped().await;
        until_taken_over(stage, frozen).await;
        pass(stage.dice.random_range(0..1_500)).await;
        stage.worker(frozen).signal(Signal::SIGCONT);
        stage.until_sends_flow().await
    })
    .await;
    assert!(outcome.verdict.late > 0, "its request never left");
    assert_few_are_late(&outcome);
    outcome.report("stopped_before_a_request");
}

/// Dies before and after every statement and every request to WeChat, one worker after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_at_every_step() {
    let mut struck = 0;
    let outcome = run(plan().workers(4), 1, async |stage: &mut Stage| {
        let seen = tempfile::NamedTempFile::new().unwrap();
        stage.kill(3).await;
        let path = seen.path().to_str().unwrap().to_owned();
        stage.spawn_with(3, &[("FAILPOINTS_SEEN", &path)]);
        until("a worker settles", async || {
            let points = std::fs::read_to_string(&path).ok()?;
            points.contains("after:settle").then_some(())
        })
        .await;
        pass(1_500).await;
        let points = std::fs::read_to_string(&path).unwrap();
        let points: Vec<&str> = points
            .lines()
            .filter(|point| !point.starts_with("during"))
            .collect();
        assert!(points.len() > 20, "{points:?}");
        // Worker 0 lives on and rescues; the others die, three at a time.
        for points in points.chunks(3) {
            for (number, point) in (1..).zip(points) {
                stage.kill(number).await;
                stage.spawn_with(number, &[("FAILPOINT", point)]);
            }
            let deadline = Instant::now() + Duration::from_secs(5);
            let numbers = 1..=points.len();
            while Instant::now() < deadline
                && !numbers
                    .clone()
                    .all(|number| stage.worker(number).has_ended())
            {
                pass(20).await;
            }
            struck += numbers
                .filter(|number| stage.worker(*number).has_ended())
                .count();
        }
        stage.revive();
        stage.until_sends_flow().await
    })
    .await;
    assert!(struck > 12, "only {struck} workers died at their step");
    println!("{struck} steps were deadly");
    outcome.report("kill_at_every_step");
}

/// A row that kills every worker that sends it. Nobody is in a batch with it a second time: what was rescued twice is leased
/// alone. Who was harmed once may still be in another batch of the worker that it kills next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_row() {
    let (mut killed, mut in_its_batch_again) = (0, 0);
    let plan = plan().set("FAILPOINT", "to:oPoison1");
    let outcome = run(plan, 1, async |stage: &mut Stage| {
        let mut producer = stage.connect().await;
        let poison = Rows::of("Poison", 1).attempts_max(3);
        let poison = poison.insert(&mut producer).await;
        tell(stage, poison, false);
        let fed_at = Instant::now();
        until("the poison is out of the way", async || {
            stage.revive();
            let left = "select count(*) from pending_notifications where openid = 'oPoison1'";
            (stage.count(left).await == 0).then_some(())
        })
        .await;
        let took = fed_at.elapsed();
        stage
            .sql("create or replace view chaos_harm as
                  select n.id, n.openid = 'oPoison1' as poison, a.appid, a.lease_id from notification_attempts a join notifications n on n.id = a.notification_id
                  where a.result = 'doubt' and a.reason like 'the worker vanished%'")
            .await;
        killed = stage
            .count("select count(*) from chaos_harm where poison")
            .await;
        in_its_batch_again = stage
            .count("select count(*) from (
                        select from chaos_harm n where not poison and (appid, lease_id) in (select appid, lease_id from chaos_harm where poison)
                        group by n.id having count(*) > 1) x")
            .await;
        took
    })
    .await;
    assert!(killed >= 3, "it killed {killed} times");
    assert_eq!(in_its_batch_again, 0, "neighbours in its batch again");
    outcome.report("poison_row");
}
