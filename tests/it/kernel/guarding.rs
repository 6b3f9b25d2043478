//! What producers may still change: everything until a row is in flight, nothing from then on.

use serde_json::json;
use sqlx::PgConnection;

use super::{APP, Outcome, Queue, backend, in_secs, lease, run};

async fn arm(session: &mut PgConnection, openid: &str) -> Option<i64> {
    sqlx::query_scalar("select arm($1, $2, 'template-1', '{\"thing1\": \"armed\"}')")
        .bind(APP)
        .bind(openid)
        .fetch_one(session)
        .await
        .unwrap()
}

const CHANGES: [&str; 6] = [
    "delete from pending_notifications where id = ",
    "update pending_notifications set send_at = now() + interval '1 h' where id = ",
    "update pending_notifications set held = true where id = ",
    "update pending_notifications set expire_at = now() + interval '1 h' where id = ",
    "update pending_notifications set data = '{\"thing1\": \"y\"}' where id = ",
    "update pending_notifications set openid = 'another' where id = ",
];

#[tokio::test]
async fn rows_in_flight_and_in_doubt_are_out_of_a_producers_reach() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let in_flight = queue.lease("one").await.unwrap();
    for change in CHANGES {
        assert_eq!(
            run(queue.pool(), &format!("{change}{id}")).await,
            0,
            "reserved: {change}"
        );
    }
    super::start(queue.pool(), &in_flight).await;
    for change in CHANGES {
        assert_eq!(
            run(queue.pool(), &format!("{change}{id}")).await,
            0,
            "in flight: {change}"
        );
    }
    queue.expire_leases().await;
    queue.rescue().await;
    for change in CHANGES {
        assert_eq!(
            run(queue.pool(), &format!("{change}{id}")).await,
            0,
            "in doubt: {change}"
        );
    }
    assert_eq!(queue.state(id).await, "pending: doubt");
}

#[tokio::test]
async fn a_delete_is_a_cancel_and_leaves_a_record() {
    let queue = Queue::new().await;
    let plain = queue.enqueue(json!({})).await;
    let held = queue.enqueue(json!({"held": true})).await;
    let retrying = queue.enqueue(json!({"openid": "user-2"})).await;
    let lease = queue.lease_and_start("one").await;
    queue
        .settle(
            &lease,
            &[
                Outcome::of(plain, "release"),
                Outcome {
                    delay_secs: 60.0,
                    ..Outcome::retry(retrying)
                },
            ],
        )
        .await;

    assert_eq!(
        run(queue.pool(), "delete from pending_notifications").await,
        3
    );

    for id in [plain, held, retrying] {
        let row = queue.history(id).await;
        assert_eq!(
            (row.status.as_str(), row.settled_by.as_str()),
            ("cancelled", "producer")
        );
        assert_eq!(row.held, id == held);
    }
    assert_eq!(queue.history(retrying).await.attempts, 1);
    assert!(queue.lease("one").await.is_none());
}

#[tokio::test]
async fn a_rolled_back_cancel_changes_nothing() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    assert_eq!(
        run(
            &mut producer,
            &format!("delete from pending_notifications where id = {id}")
        )
        .await,
        1
    );
    assert!(queue.lease("one").await.is_none());
    run(&mut producer, "rollback").await;
    assert_eq!(queue.lease("one").await.unwrap().ids, [id]);
    assert_eq!(queue.state(id).await, "pending");
}

/// Lock what you lease: a cancel that comes while a lease is being made waits for it and then finds it.
#[tokio::test]
async fn a_cancel_beside_an_uncommitted_lease_finds_the_row_in_flight() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    for (end, cancelled) in [("commit", 0), ("rollback", 1)] {
        let mut worker = queue.session().await;
        run(&mut worker, "begin").await;
        let in_flight = lease(&mut worker, APP, 1, "one", 9).await.unwrap().unwrap();
        assert_eq!(in_flight.ids, [id]);
        let mut producer = queue.session().await;
        let waiting = backend(&mut producer).await;
        let cancel = tokio::spawn(async move {
            run(
                &mut producer,
                &format!("delete from pending_notifications where id = {id}"),
            )
            .await
        });
        queue.until_blocked(waiting).await;
        run(&mut worker, end).await;
        assert_eq!(cancel.await.unwrap(), cancelled, "{end}");
        if end == "commit" {
            queue
                .settle(&in_flight, &[Outcome::of(id, "release")])
                .await;
        }
    }
    assert_eq!(queue.state(id).await, "cancelled");
}

#[tokio::test]
async fn a_rescheduled_row_comes_at_its_new_time() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let change = async |change: &str| {
        let statement = format!("update pending_notifications set {change} where id = {id}");
        assert_eq!(run(queue.pool(), &statement).await, 1);
    };
    change("send_at = now() + interval '1 h'").await;
    assert!(queue.lease("one").await.is_none());
    change("send_at = null").await;
    let lease = queue.lease_and_start("one").await;
    queue
        .settle(
            &lease,
            &[Outcome {
                delay_secs: 3600.0,
                ..Outcome::retry(id)
            }],
        )
        .await;
    // A reschedule ends a wait, and counts on.
    change("send_at = now()").await;
    let row = queue.pending(id).await;
    assert_eq!((row.waiting_for, row.attempts), (None, 1));
    assert!(queue.lease("one").await.is_some());
}

#[tokio::test]
async fn a_changed_end_moves_the_due_time_and_nothing_else() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("one").await;
    queue
        .settle(
            &lease,
            &[Outcome {
                delay_secs: 3600.0,
                ..Outcome::retry(id)
            }],
        )
        .await;
    let before = queue.pending(id).await.due;
    run(
        queue.pool(),
        "update pending_notifications set expire_at = now() + interval '2 h'",
    )
    .await;
    assert_eq!(queue.pending(id).await.due, before);
    run(
        queue.pool(),
        "update pending_notifications set expire_at = now() + interval '1 minute'",
    )
    .await;
    assert!(queue.pending(id).await.due < before);
    assert_eq!(
        queue.pending(id).await.waiting_for.as_deref(),
        Some("retry")
    );
}

/// The S3 case: a row that was due never is due when its new end comes.
#[tokio::test]
async fn a_held_row_that_gets_an_expire_at_expires() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"held": true})).await;
    assert_eq!(queue.pending(id).await.due, None);

    run(
        queue.pool(),
        &format!(
            "update pending_notifications set expire_at = now() + interval '1 h' where id = {id}"
        ),
    )
    .await;
    assert!(queue.pending(id).await.due.is_some());
    run(
        queue.pool(),
        &format!("update pending_notifications set expire_at = null where id = {id}"),
    )
    .await;
    assert_eq!(queue.pending(id).await.due, None);
    run(
        queue.pool(),
        &format!(
            "update pending_notifications set expire_at = now() - interval '1 s' where id = {id}"
        ),
    )
    .await;

    assert!(queue.lease("one").await.is_none());
    assert_eq!(queue.tidy(APP).await, 1);
    let row = queue.history(id).await;
    assert_eq!((row.status.as_str(), row.held), ("expired", true));
}

#[tokio::test]
async fn arming_takes_the_oldest_held_credit_and_sends_its_words() {
    let queue = Queue::new().await;
    let held = queue
        .enqueue_all((0..2).map(|_| json!({"held": true, "data": {}})))
        .await;
    queue
        .enqueue(json!({"held": true, "data": {}, "expire_at": in_secs(-1)}))
        .await;
    let mut session = queue.session().await;

    assert_eq!(arm(&mut session, "user-1").await, Some(held[0]));
    let lease = queue.lease_and_start("one").await;
    assert_eq!(lease.ids, held[..1]);
    assert_eq!(arm(&mut session, "user-1").await, Some(held[1]));
    assert_eq!(
        arm(&mut session, "user-1").await,
        None,
        "an expired credit is none"
    );
    assert_eq!(arm(&mut session, "user-2").await, None);
    queue.settle(&lease, &[Outcome::sent(held[0])]).await;
    let row = queue.history(held[0]).await;
    assert_eq!((row.data, row.held), (json!({"thing1": "armed"}), false));
}

#[tokio::test]
async fn arming_without_words_is_refused_and_keeps_the_credit() {
    let queue = Queue::new().await;
    let held = queue.enqueue(json!({"held": true, "data": {}})).await;
    let mut session = queue.session().await;
    let statement = "select arm('wxapp-one', 'user-1', 'template-1', '{}')";
    let error = sqlx::query(statement)
        .execute(&mut session)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("pending_notifications.data: is empty"),
        "{error}"
    );
    assert_eq!(arm(&mut session, "user-1").await, Some(held));
}

/// The S4 case, in the levels that producers use.
#[tokio::test]
async fn of_two_arms_at_once_neither_waits_and_a_rolled_back_one_loses_nothing() {
    for level in ["read committed", "repeatable read"] {
        let queue = Queue::new().await;
        let held = queue
            .enqueue_all((0..2).map(|_| json!({"held": true, "data": {}})))
            .await;
        let (mut one, mut two, mut three) = (
            queue.session().await,
            queue.session().await,
            queue.session().await,
        );
        for session in [&mut one, &mut two, &mut three] {
            run(&mut *session, &format!("begin isolation level {level}")).await;
            run(&mut *session, "set local lock_timeout = '500ms'").await;
        }
        assert_eq!(arm(&mut one, "user-1").await, Some(held[0]), "{level}");
        assert_eq!(arm(&mut two, "user-1").await, Some(held[1]), "{level}");
        assert_eq!(
            arm(&mut three, "user-1").await,
            None,
            "{level}: none is free"
        );
        run(&mut one, "rollback").await;
        run(&mut two, "commit").await;
        assert_eq!(
            arm(&mut queue.session().await, "user-1").await,
            Some(held[0]),
            "{level}"
        );
    }
}

#[tokio::test]
async fn a_producer_cannot_write_our_columns() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"attempts_max": 3})).await;
    run(
        queue.pool(),
        "update pending_notifications set attempts = 3, due = 'infinity', in_doubt_since = now(), last_lease = 1, waiting_for = 'doubt'",
    )
    .await;
    let row = queue.pending(id).await;
    assert_eq!(
        (
            row.attempts,
            row.in_doubt_since,
            row.last_lease,
            row.waiting_for
        ),
        (0, None, None, None)
    );
    assert!(row.due.is_some());
    let error = sqlx::query("update pending_notifications set appid = 'other'")
        .execute(queue.pool())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot change"), "{error}");
}
