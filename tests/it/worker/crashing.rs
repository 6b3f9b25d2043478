//! Workers that die, freeze or share a name: nothing is lost, and what may be doubled says so.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use wxnotify::simulate::{Action, Rule};
use wxnotify::store::{LaneRequest, LeaseRequest, Store, Watermark};

use super::{APP, HASTY, Scene};
use crate::harness::eventually;

#[tokio::test]
async fn kill_9_under_load_loses_nothing_and_every_double_is_recorded() {
    const ROWS: i32 = 400;
    let scene = Scene::new().await;
    scene.wechat.set_latency(Duration::from_millis(15));
    let ids = scene.insert_many("oUser", ROWS, json!({})).await;
    let mut victim = scene.spawn(&[("WXNOTIFY_CONCURRENCY", "16")]);
    scene.until_sends(100).await;
    victim.kill().await;
    scene.until_its_sessions_end().await;

    let under_way = scene.rows_under_way().await.len();
    assert!(under_way > 0, "it was killed in mid-flight");
    scene.lapse_leases().await;
    let _next = scene.start(&HASTY);
    scene.until_all(&ids, "sent").await;

    let doubted: Vec<(String, bool)> = sqlx::query_as(
        "select openid, may_be_doubled from notifications where in_doubt_since is not null",
    )
    .fetch_all(scene.pool())
    .await
    .unwrap();
    assert!(
        (1..=under_way).contains(&doubted.len()),
        "{} doubts, {under_way} under way",
        doubted.len()
    );
    let ledger = scene.ledger();
    let mut doubles = 0;
    for pair in &ledger.pairs {
        let recorded = doubted
            .iter()
            .any(|(openid, may_be_doubled)| *openid == pair.openid && *may_be_doubled);
        assert!(pair.accepted >= 1, "lost: {pair:?}");
        assert!(pair.accepted == 1 || recorded, "not recorded: {pair:?}");
        doubles += pair.accepted - 1;
    }
    assert_eq!(ledger.pairs.len(), ids.len());
    assert!(doubles <= under_way as u64);
    assert_eq!(ledger.counts.errcodes.get(&43108), None);
}

#[tokio::test]
async fn after_kill_9_rows_on_hold_are_never_sent_twice() {
    let scene = Scene::new().await;
    scene.wechat.set_latency(Duration::from_millis(15));
    let hold = json!({ "on_doubt": "hold" });
    let ids = scene.insert_many("oUser", 120, hold).await;
    let mut victim = scene.spawn(&[]);
    scene.until_sends(40).await;
    victim.kill().await;
    scene.until_its_sessions_end().await;
    let under_way = scene.rows_under_way().await;
    scene.lapse_leases().await;
    let _next = scene.start(&HASTY);
    scene.until_all(&under_way, "in_doubt").await;
    let others: Vec<i64> = ids
        .iter()
        .copied()
        .filter(|id| !under_way.contains(id))
        .collect();
    scene.until_all(&others, "sent").await;
    let ledger = scene.ledger();
    assert!(ledger.pairs.iter().all(|pair| pair.accepted <= 1));
}

/// A worker that reserved a batch and died before it recorded the start.
#[tokio::test]
async fn a_crash_between_lease_and_start_causes_no_doubt() {
    let scene = Scene::new().await;
    let ids = scene.insert_many("oUser", 10, json!({})).await;
    let lane = LaneRequest {
        appid: APP.to_owned(),
        lane: 1,
        after: Watermark::START,
        low_lease_id: 0,
    };
    let request = LeaseRequest {
        lanes: &[lane],
        worker: "dead#1",
        rows: 10,
        total: 10,
        lease: Duration::from_secs(1),
        start: false,
    };
    let store = Store::new(scene.pool().clone());
    let leased = store.lease(&request).await.unwrap();
    assert_eq!(leased[0].leased.rows(), 10);

    let _worker = scene.start(&[]);
    scene.until_all(&ids, "sent").await;
    let touched = "select count(*) from notification_history where attempts <> 1 or in_doubt_since is not null";
    assert_eq!(scene.count(touched).await, 0);
    assert_eq!(scene.sends(), 10);
}

#[tokio::test]
async fn a_row_that_kills_its_worker_again_and_again_is_leased_alone() {
    let scene = Scene::new().await;
    let deadly = scene.insert("oDeadly", json!({})).await;
    scene
        .as_worker("update pending_notifications set rescues = 2")
        .await;
    let others = scene.insert_many("oOther", 10, json!({})).await;
    scene.wechat.hold();
    let _worker = scene.start(&[]);
    // Which of two leases reaches WeChat first is the machine's affair.
    let leased = eventually("the deadly row is leased", async || {
        let lease = "select ids from notification_leases where $1 = any (ids)";
        let lease = sqlx::query_scalar::<_, Vec<i64>>(lease).bind(deadly);
        lease.fetch_optional(scene.pool()).await.unwrap()
    });
    assert_eq!(leased.await, [deadly]);
    scene.until_sends(1).await;
    scene.wechat.release();
    scene.until(deadly, "sent").await;
    scene.until_all(&others, "sent").await;
}

/// Stopped for longer than its lease: another worker has put its rows in doubt. What it had not sent it says so of, and sends
/// under a new lease alone.
#[tokio::test]
async fn a_worker_frozen_past_its_lease_sends_nothing_of_it_afterwards() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let ids = scene.insert_many("oUser", 4, json!({})).await;
    let frozen = scene.spawn(&[
        ("WXNOTIFY_WORKER", "frozen"),
        ("WXNOTIFY_CONCURRENCY", "2"),
        ("WXNOTIFY_CONNECT_TIMEOUT_SECS", "0.5"),
        ("WXNOTIFY_REQUEST_TIMEOUT_SECS", "2.5"),
        ("WXNOTIFY_LEASE_SECS", "7.6"),
    ]);
    eventually("the batch behind the slots is started too", async || {
        (scene.rows_under_way().await.len() == 4).then_some(())
    })
    .await;
    scene.until_sends(2).await;
    frozen.signal(Signal::SIGSTOP);
    let rescuer = scene.start(&[("WXNOTIFY_WORKER", "rescuer")]);
    scene.until_all(&ids, "in_doubt").await;
    rescuer.stop().await;
    assert_eq!(scene.sends(), 2);

    let was_sent = |number: usize| {
        let ledger = scene.wechat.ledger();
        ledger.sends_to(&format!("oUser{number}")).count()
    };
    let unsent: Vec<usize> = (0..4).filter(|number| was_sent(*number) == 0).collect();
    scene.wechat.release();
    frozen.signal(Signal::SIGCONT);
    for number in unsent {
        let row = scene.until(ids[number], "sent").await;
        // Under its old lease it would have been a late reply to the first attempt.
        assert_eq!(
            (row.settled_by.as_deref(), row.attempts),
            (Some("reply"), 2)
        );
    }
    for number in 0..4 {
        assert_eq!(was_sent(number), 1, "to oUser{number}");
    }
}

#[tokio::test]
async fn what_a_frozen_worker_learns_too_late_counts_as_evidence() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let id = scene.insert("oUser", json!({})).await;
    let frozen = scene.spawn(&[("WXNOTIFY_WORKER", "frozen")]);
    scene.until_sends(1).await;
    frozen.signal(Signal::SIGSTOP);
    scene.lapse_leases().await;
    let _rescuer = scene.start(&[("WXNOTIFY_WORKER", "rescuer")]);
    scene.until(id, "in_doubt").await;
    scene.wechat.release();
    frozen.signal(Signal::SIGCONT);
    let row = scene.until(id, "sent").await;
    assert_eq!(row.settled_by.as_deref(), Some("late_reply"));
    assert_eq!(scene.sends(), 1);
}

#[tokio::test]
async fn two_workers_of_one_name_both_work_and_no_row_goes_twice() {
    let scene = Scene::new().await;
    let ids = scene.insert_many("oUser", 200, json!({})).await;
    scene.wechat.hold();
    let _one = scene.start(&[]);
    let _two = scene.start(&[]);
    scene.until_sends(16).await;
    scene.wechat.release();
    scene.until_all(&ids, "sent").await;
    let workers = "select count(distinct worker) from notification_history";
    assert_eq!(scene.count(workers).await, 2);
    assert_eq!(scene.sends(), 200);
    let doubted = "select count(*) from notification_history where in_doubt_since is not null";
    assert_eq!(scene.count(doubted).await, 0);
}

/// The newcomer of the same name must not take the other's leases for its own leftovers.
#[tokio::test]
async fn a_restart_under_the_same_name_waits_for_what_the_old_one_began() {
    let scene = Scene::new().await;
    scene.wechat.script(Rule::send(Action::hang_after_credit()));
    let id = scene.insert("oUser", json!({})).await;
    let mut old = scene.spawn(&[]);
    scene.until_sends(1).await;
    old.kill().await;
    scene.wechat.clear_scripts();
    let _new = scene.start(&HASTY);
    let other = scene.insert("oOther", json!({})).await;
    scene.until(other, "sent").await;
    assert_eq!(scene.status(id).await, "sending");
    assert_eq!(scene.sends_to("oUser"), 1);
    scene.lapse_leases().await;
    let row = scene.until(id, "sent").await;
    assert_eq!(row.may_be_doubled, Some(true));
}
