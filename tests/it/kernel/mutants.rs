//! The kernel with one rule taken out: each test must find the harm that the rule prevents.
//!
//! Every interleaving runs twice, against the kernel as it is and against the mutant, and must tell them apart.

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::doubting::{event_of_the_doubt, two_doubts};
use super::{APP, Outcome, Queue, backend, lease, run, settle};

/// A function of the kernel with a piece of its text replaced.
pub struct Mutant {
    pub function: &'static str,
    pub find: &'static str,
    pub replace: &'static str,
}

pub const NO_ROW_LOCK: Mutant = Mutant {
    function: "wxnotify_lease_locked",
    find: "order by p.due, p.id + 0 limit p_rows for update of p skip locked",
    replace: "order by p.due, p.id + 0 limit p_rows",
};
pub const LOCK_PER_LANE: Mutant = Mutant {
    function: "wxnotify_lease",
    find: "perform wxnotify_lock_app(p_appid);",
    replace: "perform wxnotify_lock_app(p_appid || p_lane);",
};
pub const CLOCK_IN_THE_FENCE: Mutant = Mutant {
    function: "wxnotify_settle",
    find: "and worker = p_worker for update;",
    replace: "and worker = p_worker and expires_at > clock_timestamp() for update;",
};
pub const RESCUE_WITHOUT_LAST_LEASE: Mutant = Mutant {
    function: "wxnotify_rescue",
    find: "and p.last_lease is distinct from v_lease.lease_id for update skip locked",
    replace: "for update skip locked",
};
pub const CLOSE_WITHOUT_LOOKING: Mutant = Mutant {
    function: "wxnotify_settle",
    find: "if v_settled < cardinality(v_lease.ids) then",
    replace: "if false then",
};
pub const FAILURE_CLEARS_DOUBT: Mutant = Mutant {
    function: "wxnotify_settle_unsent",
    find: "else p.in_doubt_since end",
    replace: "else null end",
};
pub const EARLIER_DOUBTS_FORGOTTEN: Mutant = Mutant {
    function: "wxnotify_unowned_events",
    find: "or h.in_doubt_since < p_since and",
    replace: "or false and",
};
pub const BLIND_KEY_CLAIM: Mutant = Mutant {
    function: "wxnotify_lease_locked",
    find: "where dedup_key is not null and winner is null)",
    replace: "where dedup_key is not null on conflict do nothing)",
};
pub const SOLO_LEFT_IN_THE_BATCH: Mutant = Mutant {
    function: "wxnotify_lease_locked",
    find: "and (solo.at is null or n < solo.at or (solo.at = solo.front and n = solo.at))",
    replace: "",
};

impl Mutant {
    pub async fn apply(&self, queue: &Queue) {
        let statement = "select pg_get_functiondef($1::regproc)";
        let original: String = sqlx::query_scalar(statement)
            .bind(self.function)
            .fetch_one(queue.pool())
            .await
            .unwrap();
        assert_eq!(
            original.matches(self.find).count(),
            1,
            "{} has no such piece: {}",
            self.function,
            self.find
        );
        let mutant = original.replace(self.find, self.replace);
        sqlx::query(AssertSqlSafe(mutant))
            .execute(queue.pool())
            .await
            .unwrap();
    }
}

/// The kernel as it is, and the kernel with one rule taken out.
async fn original_and_mutant(mutant: &Mutant) -> (Queue, Queue) {
    let (original, mutated) = (Queue::new().await, Queue::new().await);
    mutant.apply(&mutated).await;
    (original, mutated)
}

/// Cancels a row beside an uncommitted lease; true: the cancel was committed and the row is in the lease.
async fn a_cancelled_row_is_sent(queue: &Queue) -> bool {
    let id = queue.enqueue(json!({})).await;
    let mut worker = queue.session().await;
    run(&mut worker, "begin").await;
    let leased = lease(&mut worker, APP, 1, "one", 9).await.unwrap().unwrap();
    let mut producer = queue.session().await;
    let waiting = backend(&mut producer).await;
    let mut cancel = tokio::spawn(async move {
        run(
            &mut producer,
            &format!("delete from pending_notifications where id = {id}"),
        )
        .await
    });
    let cancelled = tokio::select! {
        done = &mut cancel => Some(done.unwrap()),
        () = queue.until_blocked(waiting) => None,
    };
    run(&mut worker, "commit").await;
    let cancelled = match cancelled {
        Some(rows) => rows,
        None => cancel.await.unwrap(),
    };
    cancelled == 1 && super::start(queue.pool(), &leased).await
}

#[tokio::test]
async fn without_the_row_lock_a_committed_cancel_is_sent() {
    let (original, mutant) = original_and_mutant(&NO_ROW_LOCK).await;
    assert!(!a_cancelled_row_is_sent(&original).await);
    assert!(a_cancelled_row_is_sent(&mutant).await);
}

/// Leases a user's two rows of two lanes at once; true: both are leased.
async fn a_user_is_in_two_leases(queue: &Queue) -> bool {
    queue
        .enqueue_all([json!({"lane": 0}), json!({"lane": 1})])
        .await;
    let (mut one, mut two) = (queue.session().await, queue.session().await);
    run(&mut one, "begin").await;
    assert!(lease(&mut one, APP, 0, "one", 9).await.unwrap().is_some());
    let waiting = backend(&mut two).await;
    let mut second = tokio::spawn(async move { lease(&mut two, APP, 1, "two", 9).await.unwrap() });
    let leased = tokio::select! {
        done = &mut second => Some(done.unwrap()),
        () = queue.until_blocked(waiting) => None,
    };
    run(&mut one, "commit").await;
    match leased {
        Some(leased) => leased.is_some(),
        None => second.await.unwrap().is_some(),
    }
}

#[tokio::test]
async fn with_a_lock_per_lane_a_user_is_in_two_leases() {
    let (original, mutant) = original_and_mutant(&LOCK_PER_LANE).await;
    assert!(!a_user_is_in_two_leases(&original).await);
    assert!(a_user_is_in_two_leases(&mutant).await);
}

/// Settles a delivered row after its lease's time; true: a known success became a doubt.
async fn a_known_success_becomes_a_doubt(queue: &Queue) -> bool {
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("slow").await;
    queue.expire_leases().await;
    settle(queue.pool(), &lease, true, &[Outcome::sent(id)])
        .await
        .unwrap();
    queue.rescue().await;
    queue.state(id).await == "pending: doubt"
}

#[tokio::test]
async fn with_the_clock_in_the_fence_a_known_success_becomes_a_doubt() {
    let (original, mutant) = original_and_mutant(&CLOCK_IN_THE_FENCE).await;
    assert!(!a_known_success_becomes_a_doubt(&original).await);
    assert!(a_known_success_becomes_a_doubt(&mutant).await);
}

/// Crashes after settling one of two rows; true: the settled one is in doubt too.
async fn a_settled_row_is_put_in_doubt(queue: &Queue) -> bool {
    let ids = queue
        .enqueue_all([json!({}), json!({"openid": "user-2"})])
        .await;
    let lease = queue.lease_and_start("crashed").await;
    settle(
        queue.pool(),
        &lease,
        false,
        &[Outcome {
            delay_secs: 60.0,
            ..Outcome::retry(ids[0])
        }],
    )
    .await
    .unwrap();
    queue.expire_leases().await;
    queue.rescue().await;
    assert_eq!(queue.state(ids[1]).await, "pending: doubt");
    queue.pending(ids[0]).await.in_doubt_since.is_some()
}

#[tokio::test]
async fn a_rescue_without_last_lease_puts_settled_rows_in_doubt() {
    let (original, mutant) = original_and_mutant(&RESCUE_WITHOUT_LAST_LEASE).await;
    assert!(!a_settled_row_is_put_in_doubt(&original).await);
    assert!(a_settled_row_is_put_in_doubt(&mutant).await);
}

/// Closes a lease while a producer holds one delivered row; true: that row is sent again without a doubt.
async fn a_delivered_row_is_sent_again(queue: &Queue) -> bool {
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("one").await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    run(
        &mut producer,
        "select from pending_notifications for update",
    )
    .await;
    settle(queue.pool(), &lease, true, &[Outcome::sent(id)])
        .await
        .unwrap();
    run(&mut producer, "commit").await;
    queue
        .lease("two")
        .await
        .is_some_and(|again| again.ids == [id])
        && queue.pending(id).await.in_doubt_since.is_none()
}

#[tokio::test]
async fn closing_without_looking_for_stragglers_sends_again_without_a_doubt() {
    let (original, mutant) = original_and_mutant(&CLOSE_WITHOUT_LOOKING).await;
    assert!(!a_delivered_row_is_sent_again(&original).await);
    assert!(a_delivered_row_is_sent_again(&mutant).await);
}

/// Lets an event tell of an earlier doubtful row's first message; true: a later row ends as sent by it.
async fn a_strangers_event_ends_a_doubt(queue: &Queue) -> bool {
    let id = two_doubts(queue, json!({}), 1).await;
    event_of_the_doubt(queue, id, 70, -1_500).await;
    queue.weigh().await == 1
}

#[tokio::test]
async fn with_earlier_doubts_forgotten_a_strangers_event_ends_a_doubt() {
    let (original, mutant) = original_and_mutant(&EARLIER_DOUBTS_FORGOTTEN).await;
    assert!(!a_strangers_event_ends_a_doubt(&original).await);
    assert!(a_strangers_event_ends_a_doubt(&mutant).await);
}

/// Lets a delivered row be in doubt and then fail for certain; true: its late event no longer finds it.
async fn a_late_event_finds_no_doubt(queue: &Queue) -> bool {
    let id = queue.enqueue(json!({})).await;
    queue.lease_and_start("vanished").await;
    queue.expire_leases().await;
    queue.rescue().await;
    queue.make_due(id).await;
    let lease = queue.lease_and_start("next").await;
    queue
        .settle(
            &lease,
            &[Outcome {
                delay_secs: 60.0,
                ..Outcome::retry(id)
            }],
        )
        .await;
    queue.event("user-1", 77, 0).await;
    queue.weigh().await == 0
}

#[tokio::test]
async fn a_doubt_cleared_by_a_later_failure_sends_again_in_spite_of_evidence() {
    let (original, mutant) = original_and_mutant(&FAILURE_CLEARS_DOUBT).await;
    assert!(!a_late_event_finds_no_doubt(&original).await);
    assert!(a_late_event_finds_no_doubt(&mutant).await);
}

/// Leases a keyed row beside an open cancel of the key's owner; true: the lease waits for the producer.
async fn a_lease_waits_for_a_producer(queue: &Queue) -> bool {
    let winner = queue.enqueue(json!({"dedup_key": "key"})).await;
    let first = queue.lease_and_start("one").await;
    queue
        .settle(
            &first,
            &[Outcome {
                delay_secs: 60.0,
                ..Outcome::retry(winner)
            }],
        )
        .await;
    queue
        .enqueue(json!({"dedup_key": "key", "openid": "user-2"}))
        .await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    run(
        &mut producer,
        &format!("delete from pending_notifications where id = {winner}"),
    )
    .await;
    let mut worker = queue.session().await;
    run(&mut worker, "set lock_timeout = '300ms'").await;
    lease(&mut worker, APP, 1, "two", 9).await.is_err()
}

#[tokio::test]
async fn a_blind_claim_of_a_key_waits_with_the_app_lock_held() {
    let mutant = Mutant {
        find: "where (winner is null or winner = id) and (dedup_key is null or key_turn = 1 or winner = id)",
        replace: "where (dedup_key is null or key_turn = 1)",
        ..BLIND_KEY_CLAIM
    };
    let (original, mutated) = original_and_mutant(&BLIND_KEY_CLAIM).await;
    mutant.apply(&mutated).await;
    assert!(!a_lease_waits_for_a_producer(&original).await);
    assert!(a_lease_waits_for_a_producer(&mutated).await);
}

/// Leases five rows of which one was rescued twice; true: it has company.
async fn a_suspect_has_company(queue: &Queue) -> bool {
    let ids = queue
        .enqueue_all((0..5).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    queue
        .force(&format!(
            "update pending_notifications set rescues = 2 where id = {}",
            ids[2]
        ))
        .await;
    let mut company = false;
    while let Some(lease) = queue.lease("one").await {
        company |= lease.ids.contains(&ids[2]) && lease.ids.len() > 1;
    }
    company
}

#[tokio::test]
async fn without_the_solo_rule_a_suspect_has_company() {
    let (original, mutant) = original_and_mutant(&SOLO_LEFT_IN_THE_BATCH).await;
    assert!(!a_suspect_has_company(&original).await);
    assert!(a_suspect_has_company(&mutant).await);
}
