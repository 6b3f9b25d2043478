//! Of rows with one key one is sent, and nobody waits for anybody to find out which.

use serde_json::json;

use super::{APP, Outcome, Queue, in_secs, insert, lease, run};

fn keyed(openid: &str) -> serde_json::Value {
    json!({"openid": openid, "dedup_key": "order-7"})
}

/// Two rows of one key; the first is leased once and waits to retry, the second was parked behind it.
async fn winner_and_loser(queue: &Queue) -> (i64, i64) {
    let winner = queue.enqueue(keyed("winner")).await;
    let lease = queue.lease_and_start("one").await;
    queue
        .settle(
            &lease,
            &[Outcome {
                delay_secs: 3600.0,
                ..Outcome::retry(winner)
            }],
        )
        .await;
    let loser = queue.enqueue(keyed("loser")).await;
    assert!(queue.lease("one").await.is_none());
    assert_eq!(queue.state(loser).await, "pending: duplicate");
    (winner, loser)
}

#[tokio::test]
async fn two_producers_with_one_key_neither_wait_nor_fail() {
    let queue = Queue::new().await;
    let mut one = queue.session().await;
    let mut two = queue.session().await;
    for session in [&mut one, &mut two] {
        run(&mut *session, "set lock_timeout = '1s'").await;
        run(&mut *session, "begin").await;
    }
    let first = insert(&mut one, keyed("user-1")).await.unwrap();
    let second = insert(&mut two, keyed("user-2")).await.unwrap();
    run(&mut two, "commit").await;
    run(&mut one, "commit").await;

    let lease = queue.lease_and_start("one").await;
    assert_eq!(lease.ids, [first]);
    queue.settle(&lease, &[Outcome::sent(first)]).await;
    queue.lease("one").await;
    let duplicate = queue.history(second).await;
    assert_eq!(
        (
            duplicate.status.as_str(),
            duplicate.duplicate_of,
            duplicate.attempts
        ),
        ("duplicate", Some(first), 0)
    );
}

#[tokio::test]
async fn a_key_belongs_to_one_mini_program() {
    let queue = Queue::new().await;
    queue.register("wxapp-two").await;
    queue.enqueue(keyed("user-1")).await;
    queue
        .enqueue(json!({"appid": "wxapp-two", "dedup_key": "order-7"}))
        .await;
    assert!(queue.lease("one").await.is_some());
    assert!(
        lease(queue.pool(), "wxapp-two", 1, "one", 9)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn losers_wait_a_finite_while_for_a_pending_winner() {
    let queue = Queue::new().await;
    let (_, loser) = winner_and_loser(&queue).await;
    let wait = (queue.pending(loser).await.due.unwrap() - chrono::Utc::now()).num_seconds();
    assert!((0..=75).contains(&wait), "{wait}");
    queue.make_due(loser).await;
    assert!(queue.lease("one").await.is_none());
    assert_eq!(queue.state(loser).await, "pending: duplicate", "still");
}

#[tokio::test]
async fn a_loser_does_not_wait_past_its_own_end() {
    let queue = Queue::new().await;
    winner_and_loser(&queue).await;
    let id = queue
        .enqueue(json!({"openid": "user-3", "dedup_key": "order-7", "expire_at": in_secs(2)}))
        .await;
    queue.lease("one").await;
    assert!((queue.pending(id).await.due.unwrap() - chrono::Utc::now()).num_seconds() <= 2);
}

#[tokio::test]
async fn a_winner_that_was_not_sent_hands_its_key_on() {
    let ends: [fn(i64) -> Outcome; 2] = [
        |id| Outcome::dead(id, 40003, "kept"),
        |id| Outcome::of(id, "expired"),
    ];
    for end in ends {
        let queue = Queue::new().await;
        let (winner, loser) = winner_and_loser(&queue).await;
        queue.make_due(winner).await;
        let lease = queue.lease_and_start("one").await;
        assert_eq!(lease.ids, [winner]);
        queue.settle(&lease, &[end(winner)]).await;
        assert_eq!(queue.state(loser).await, "pending", "woken");
        assert_eq!(queue.lease("one").await.unwrap().ids, [loser]);
    }
}

#[tokio::test]
async fn a_winner_that_was_rescheduled_gives_its_key_up() {
    let queue = Queue::new().await;
    let (winner, loser) = winner_and_loser(&queue).await;
    let statement = format!(
        "update pending_notifications set send_at = now() + interval '1 d' where id = {winner}"
    );
    assert_eq!(run(queue.pool(), &statement).await, 1);
    assert_eq!(queue.lease("one").await.unwrap().ids, [loser]);
}

/// The S1 case.
#[tokio::test]
async fn a_lease_beside_an_open_cancel_of_the_winner_lets_the_loser_take_over_after_the_commit() {
    let queue = Queue::new().await;
    let (winner, loser) = winner_and_loser(&queue).await;
    queue.make_due(loser).await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    assert_eq!(
        run(
            &mut producer,
            &format!("delete from pending_notifications where id = {winner}")
        )
        .await,
        1
    );

    // The producer could not wake the loser if it were held now, and the lease cannot see the cancel.
    let newcomer = queue.enqueue(keyed("newcomer")).await;
    assert!(
        lease(&mut queue.session().await, APP, 1, "one", 64)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(queue.state(newcomer).await, "pending: duplicate");
    run(&mut producer, "commit").await;

    assert_eq!(queue.state(winner).await, "cancelled");
    queue.force("update pending_notifications set due = clock_timestamp() - interval '1 s' where waiting_for = 'duplicate'").await;
    let next = queue.lease_and_start("one").await;
    assert_eq!(next.ids.len(), 1);
    assert!([loser, newcomer].contains(&next.ids[0]));
    queue.settle(&next, &[Outcome::sent(next.ids[0])]).await;
    queue
        .force("update pending_notifications set due = clock_timestamp() - interval '1 s'")
        .await;
    queue.lease("one").await;
    let mut states = [queue.state(loser).await, queue.state(newcomer).await];
    states.sort();
    assert_eq!(states, ["duplicate", "sent"]);
}

/// The S2 case: with the app lock held nobody may wait for a producer.
#[tokio::test]
async fn claiming_a_key_never_waits_for_an_open_cancel() {
    let queue = Queue::new().await;
    let (winner, _) = winner_and_loser(&queue).await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    run(
        &mut producer,
        &format!("delete from pending_notifications where id = {winner}"),
    )
    .await;
    queue.enqueue(keyed("newcomer")).await;
    let unkeyed = queue.enqueue(json!({"openid": "unkeyed"})).await;

    let mut worker = queue.session().await;
    run(&mut worker, "set lock_timeout = '500ms'").await;
    assert_eq!(
        lease(&mut worker, APP, 1, "one", 64)
            .await
            .unwrap()
            .unwrap()
            .ids,
        [unkeyed]
    );
    run(&mut producer, "rollback").await;
}

#[tokio::test]
async fn two_rows_of_one_key_in_one_pick_are_told_apart() {
    let queue = Queue::new().await;
    let ids = queue.enqueue_all(["a", "b", "c"].map(keyed)).await;
    let lease = queue.lease_and_start("one").await;
    assert_eq!(lease.ids, ids[..1]);
    queue.settle(&lease, &[Outcome::sent(ids[0])]).await;
    assert!(
        queue.lease("one").await.is_none(),
        "a batch of losers only is a marker"
    );
    for id in &ids[1..] {
        assert_eq!(queue.history(*id).await.duplicate_of, Some(ids[0]));
    }
}

#[tokio::test]
async fn a_key_stays_with_its_winner_through_doubt() {
    let queue = Queue::new().await;
    let winner = queue.enqueue(keyed("winner")).await;
    queue.lease_and_start("vanished").await;
    queue.expire_leases().await;
    queue.rescue().await;
    let loser = queue.enqueue(keyed("loser")).await;
    assert!(queue.lease("one").await.is_none());
    assert_eq!(queue.state(loser).await, "pending: duplicate");

    queue.event("winner", 77, 0).await;
    assert_eq!(queue.weigh().await, 1);
    queue.make_due(loser).await;
    queue.lease("one").await;
    assert_eq!(queue.history(loser).await.duplicate_of, Some(winner));
}

/// A sent row's key refuses newcomers even months later, when its row left the history.
#[tokio::test]
async fn a_key_outlives_the_history_row() {
    let queue = Queue::new().await;
    let winner = queue.enqueue(keyed("winner")).await;
    let lease = queue.lease_and_start("one").await;
    queue.settle(&lease, &[Outcome::sent(winner)]).await;
    run(queue.pool(), "delete from notification_history").await;
    let late = queue.enqueue(keyed("late")).await;
    queue.lease("one").await;
    assert_eq!(queue.history(late).await.duplicate_of, Some(winner));
}
