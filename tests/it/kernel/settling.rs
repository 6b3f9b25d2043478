//! How a lease ends: settled, in part, late, twice, or not at all.

use serde_json::json;

use super::{
    Lease, Outcome, Queue, backend, in_secs, insert, lease, run, settle, settle_together, start,
};

async fn three_users(queue: &Queue) -> Vec<i64> {
    queue
        .enqueue_all((0..3).map(|n| json!({"openid": format!("user-{n}")})))
        .await
}

#[tokio::test]
async fn each_verdict_leaves_its_row_where_it_belongs() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..8).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    let lease = queue.lease_and_start("one").await;
    let outcomes = [
        Outcome {
            msgid: Some(3_000_000_000_000_000_001),
            ..Outcome::sent(ids[0])
        },
        Outcome {
            delay_secs: 60.0,
            ..Outcome::retry(ids[1])
        },
        Outcome {
            delay_secs: 60.0,
            waiting_for: Some("template"),
            ..Outcome::of(ids[2], "park")
        },
        Outcome {
            delay_secs: 60.0,
            waiting_for: Some("app"),
            ..Outcome::of(ids[3], "park")
        },
        Outcome::doubt(ids[4]),
        Outcome::dead(ids[5], 43101, "kept"),
        Outcome::of(ids[6], "expired"),
        Outcome::of(ids[7], "release"),
    ];
    queue.settle(&lease, &outcomes).await;

    let mut states = Vec::new();
    for id in &ids {
        states.push(queue.state(*id).await);
    }
    assert_eq!(
        states,
        [
            "sent",
            "pending: retry",
            "pending: template",
            "pending: app",
            "pending: doubt",
            "dead",
            "expired",
            "pending"
        ]
    );
    let sent = queue.history(ids[0]).await;
    assert_eq!(
        (sent.msgid, sent.attempts, sent.settled_by.as_str()),
        (Some(3_000_000_000_000_000_001), 1, "reply")
    );
    let dead = queue.history(ids[5]).await;
    assert_eq!(
        (dead.errcode, dead.credit.as_deref(), dead.attempts),
        (Some(43101), Some("kept"), 1)
    );
    assert_eq!(
        queue.history(ids[6]).await.attempts,
        0,
        "it expired before it was sent"
    );
    let attempts = async |id| queue.pending(id).await.attempts;
    assert_eq!(
        [
            attempts(ids[1]).await,
            attempts(ids[2]).await,
            attempts(ids[4]).await,
            attempts(ids[7]).await
        ],
        [1, 0, 1, 0]
    );
    assert_eq!(queue.leases().await, 0);
    assert_eq!(
        queue.lease("two").await.unwrap().ids,
        [ids[7]],
        "the released row is due at once"
    );
}

#[tokio::test]
async fn a_retry_never_waits_past_the_rows_end() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"expire_at": in_secs(60)})).await;
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
    let due = queue.pending(id).await.due.unwrap();
    assert!((due - chrono::Utc::now()).num_seconds() <= 60);
}

/// The fence is the lease's existence: what nobody rescued is true, however late it comes.
#[tokio::test]
async fn a_late_outcome_counts_while_nobody_has_rescued_the_lease() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("slow").await;
    queue.expire_leases().await;

    queue.settle(&lease, &[Outcome::sent(id)]).await;

    assert_eq!(queue.rescue().await, 0);
    assert_eq!(queue.state(id).await, "sent");
}

#[tokio::test]
async fn a_rescued_lease_can_be_neither_started_nor_settled() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("slow").await;
    queue.expire_leases().await;
    assert_eq!(queue.rescue().await, 1);

    assert!(!start(queue.pool(), &lease).await);
    assert_eq!(
        settle(queue.pool(), &lease, true, &[Outcome::sent(id)])
            .await
            .unwrap(),
        None
    );
    assert_eq!(queue.state(id).await, "pending: doubt");
}

#[tokio::test]
async fn a_crash_between_lease_and_start_puts_nothing_in_doubt() {
    let queue = Queue::new().await;
    let ids = three_users(&queue).await;
    queue.lease("crashed").await.unwrap();
    queue.expire_leases().await;

    assert_eq!(queue.rescue().await, 0);
    for id in &ids {
        let row = queue.pending(*id).await;
        assert_eq!(
            (row.attempts, row.rescues, row.in_doubt_since),
            (0, 0, None)
        );
    }
    assert_eq!(queue.lease("two").await.unwrap().ids, ids);
}

#[tokio::test]
async fn a_live_lease_is_not_rescued() {
    let queue = Queue::new().await;
    queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("one").await;
    assert_eq!(queue.rescue().await, 0);
    queue.expire_leases().await;
    assert!(start(queue.pool(), &lease).await, "start prolongs it");
    assert_eq!(queue.rescue().await, 0);
}

#[tokio::test]
async fn a_crash_after_a_partial_settle_puts_only_the_rest_in_doubt() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..4).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    let lease = queue.lease_and_start("one").await;
    let settled = settle(
        queue.pool(),
        &lease,
        false,
        &[Outcome::sent(ids[0]), Outcome::retry(ids[1])],
    )
    .await
    .unwrap();
    assert_eq!(settled, Some(vec![]));
    assert_eq!(queue.leases().await, 1, "a partial settle keeps the lease");
    queue.make_due(ids[1]).await;
    assert!(
        queue.lease("two").await.is_none(),
        "a settled row stays with its open lease"
    );

    queue.expire_leases().await;
    assert_eq!(queue.rescue().await, 2);
    let states = [
        queue.state(ids[0]).await,
        queue.state(ids[1]).await,
        queue.state(ids[2]).await,
        queue.state(ids[3]).await,
    ];
    assert_eq!(
        states,
        ["sent", "pending: retry", "pending: doubt", "pending: doubt"]
    );
    assert_eq!(queue.pending(ids[1]).await.attempts, 1);
    assert_eq!(queue.leases().await, 0);
}

#[tokio::test]
async fn settling_twice_changes_nothing() {
    let queue = Queue::new().await;
    let ids = three_users(&queue).await;
    let lease = queue.lease_and_start("one").await;
    let outcomes = [
        Outcome::sent(ids[0]),
        Outcome {
            delay_secs: 60.0,
            ..Outcome::retry(ids[1])
        },
    ];
    for _ in 0..3 {
        assert_eq!(
            settle(queue.pool(), &lease, false, &outcomes)
                .await
                .unwrap(),
            Some(vec![])
        );
    }
    assert_eq!(queue.pending(ids[1]).await.attempts, 1);
    // A repeat with another word comes too late as well.
    assert_eq!(
        settle(
            queue.pool(),
            &lease,
            false,
            &[Outcome::dead(ids[1], 40003, "kept")]
        )
        .await
        .unwrap(),
        Some(vec![])
    );
    assert_eq!(queue.state(ids[1]).await, "pending: retry");

    queue.settle(&lease, &[Outcome::sent(ids[2])]).await;
    assert_eq!(
        settle(queue.pool(), &lease, true, &[Outcome::sent(ids[2])])
            .await
            .unwrap(),
        None
    );
    queue.history(ids[0]).await;
    queue.history(ids[2]).await;
}

#[tokio::test]
async fn a_lease_settles_no_row_but_its_own() {
    let queue = Queue::new().await;
    let own = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("one").await;
    let foreign = queue.enqueue(json!({"openid": "user-2"})).await;

    let outcomes = [
        Outcome::sent(own),
        Outcome::sent(foreign),
        Outcome::retry(foreign),
    ];
    assert_eq!(
        settle(queue.pool(), &lease, true, &outcomes).await.unwrap(),
        Some(vec![])
    );
    assert_eq!(queue.state(foreign).await, "pending");
    assert_eq!(queue.pending(foreign).await.attempts, 0);
}

/// Closing while a row is unsettled must keep the lease: otherwise the row would be sent again without a doubt.
#[tokio::test]
async fn closing_a_lease_with_stragglers_keeps_it_for_them_and_lets_the_other_users_go() {
    let queue = Queue::new().await;
    let ids = three_users(&queue).await;
    let next = queue
        .enqueue_all(
            (0..3).map(|n| json!({"openid": format!("user-{n}"), "template_id": "template-2"})),
        )
        .await;
    let lease = queue.lease_and_start("one").await;

    let rest = settle(
        queue.pool(),
        &lease,
        true,
        &[Outcome::sent(ids[0]), Outcome::sent(ids[1])],
    )
    .await
    .unwrap();
    assert_eq!(rest, Some(vec![]));
    assert_eq!(
        queue.lease("two").await.unwrap().ids,
        next[..2],
        "the straggler's user still waits"
    );

    queue.expire_leases().await;
    assert_eq!(queue.rescue().await, 1);
    assert_eq!(queue.state(ids[2]).await, "pending: doubt");
}

/// Nobody who holds rows waits: a producer's open transaction blocks its own row and nothing else.
#[tokio::test]
async fn a_producers_open_transaction_on_a_leased_row_delays_that_row_alone() {
    let queue = Queue::new().await;
    let ids = three_users(&queue).await;
    let lease = queue.lease_and_start("one").await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    run(
        &mut producer,
        &format!(
            "select from pending_notifications where id = {} for update",
            ids[1]
        ),
    )
    .await;

    let outcomes = ids.iter().map(|id| Outcome::sent(*id)).collect::<Vec<_>>();
    let rest = settle(&mut queue.session().await, &lease, true, &outcomes)
        .await
        .unwrap();
    assert_eq!(rest, Some(vec![ids[1]]), "it is told which");
    assert_eq!(queue.state(ids[0]).await, "sent");
    assert_eq!(queue.state(ids[2]).await, "sent");

    queue.expire_leases().await;
    assert_eq!(
        queue.rescue().await,
        0,
        "the rescue does not wait either, and keeps the lease"
    );
    assert_eq!(queue.leases().await, 1);

    run(&mut producer, "rollback").await;
    queue.settle(&lease, &[Outcome::sent(ids[1])]).await;
    assert_eq!(queue.history(ids[1]).await.in_doubt_since, None);
}

#[tokio::test]
async fn a_row_held_during_the_rescue_is_rescued_later() {
    let queue = Queue::new().await;
    let ids = three_users(&queue).await;
    queue.lease_and_start("one").await;
    queue.expire_leases().await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    run(
        &mut producer,
        &format!(
            "select from pending_notifications where id = {} for update",
            ids[1]
        ),
    )
    .await;

    assert_eq!(queue.rescue().await, 2);
    assert_eq!(queue.rescue().await, 0);
    run(&mut producer, "commit").await;
    assert_eq!(queue.rescue().await, 1);
    for id in ids {
        assert_eq!(queue.pending(id).await.attempts, 1, "once each");
    }
    assert_eq!(queue.leases().await, 0);
}

/// A settle that waits for a rescue of its lease finds it gone.
#[tokio::test]
async fn of_a_rescue_and_a_settle_at_once_one_wins() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("slow").await;
    queue.expire_leases().await;
    let mut rescuer = queue.session().await;
    run(&mut rescuer, "begin").await;
    run(&mut rescuer, "select wxnotify_rescue(120, 600)").await;

    let mut slow = queue.session().await;
    let waiting = backend(&mut slow).await;
    let settling = tokio::spawn(async move {
        settle(&mut slow, &lease, true, &[Outcome::sent(id)])
            .await
            .unwrap()
    });
    queue.until_blocked(waiting).await;
    run(&mut rescuer, "commit").await;

    assert_eq!(settling.await.unwrap(), None);
    assert_eq!(queue.state(id).await, "pending: doubt");
}

#[tokio::test]
async fn long_errmsgs_are_cut_and_do_not_poison_the_settle() {
    let queue = Queue::new().await;
    let ids = three_users(&queue).await;
    let lease = queue.lease_and_start("one").await;
    let long = "错".repeat(5_000);
    let outcomes = [
        Outcome {
            errmsg: Some(long.clone()),
            delay_secs: 60.0,
            ..Outcome::retry(ids[0])
        },
        Outcome {
            errmsg: Some(long),
            errcode: Some(i64::MAX),
            ..Outcome::dead(ids[1], 47003, "kept")
        },
        Outcome::sent(ids[2]),
    ];
    queue.settle(&lease, &outcomes).await;

    assert_eq!(
        queue
            .pending(ids[0])
            .await
            .last_errmsg
            .unwrap()
            .chars()
            .count(),
        500
    );
    let dead = queue.history(ids[1]).await;
    assert_eq!(
        (dead.errmsg.unwrap().chars().count(), dead.errcode),
        (500, Some(i64::MAX))
    );
    assert_eq!(queue.state(ids[2]).await, "sent");
}

/// Why the program strips NUL: Postgres has no text with it, and the whole settle is refused, changing nothing.
#[tokio::test]
async fn a_nul_in_an_errmsg_refuses_the_settle_whole() {
    let queue = Queue::new().await;
    let ids = three_users(&queue).await;
    let lease = queue.lease_and_start("one").await;
    let outcomes = [
        Outcome {
            errmsg: Some("system\0busy".into()),
            ..Outcome::retry(ids[0])
        },
        Outcome::sent(ids[1]),
    ];

    let error = settle(queue.pool(), &lease, true, &outcomes)
        .await
        .unwrap_err();

    assert!(error.to_string().contains("0x00"), "{error}");
    assert_eq!(queue.state(ids[1]).await, "pending");
    queue
        .settle(
            &lease,
            &ids.iter().map(|id| Outcome::sent(*id)).collect::<Vec<_>>(),
        )
        .await;
}

#[tokio::test]
async fn the_history_keeps_the_rows_last_committed_words() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"data": {"thing1": "old"}})).await;
    run(
        queue.pool(),
        &format!(
            "update pending_notifications set data = '{{\"thing1\": \"new\"}}' where id = {id}"
        ),
    )
    .await;
    let lease = queue.lease_and_start("one").await;
    let changed = run(
        queue.pool(),
        &format!(
            "update pending_notifications set data = '{{\"thing1\": \"late\"}}' where id = {id}"
        ),
    )
    .await;
    assert_eq!(changed, 0);
    queue.settle(&lease, &[Outcome::sent(id)]).await;
    assert_eq!(queue.history(id).await.data, json!({"thing1": "new"}));
}

#[tokio::test]
async fn released_leases_give_their_rows_back_and_started_ones_do_not() {
    let queue = Queue::new().await;
    let ids = three_users(&queue).await;
    let release = async |lease: &super::Lease| -> bool {
        sqlx::query_scalar("select wxnotify_release($1, $2, $3)")
            .bind(&lease.appid)
            .bind(lease.lease_id)
            .bind(&lease.worker)
            .fetch_one(queue.pool())
            .await
            .unwrap()
    };
    let reserved = queue.lease("one").await.unwrap();
    assert!(release(&reserved).await);
    assert!(!start(queue.pool(), &reserved).await);
    let started = queue.lease_and_start("one").await;
    assert_eq!(started.ids, ids);
    assert!(!release(&started).await);
    insert(queue.pool(), json!({})).await.unwrap();
    assert!(queue.lease("two").await.is_none());
}

/// Two users' rows, each leased apart and started by one worker.
async fn two_leases(queue: &Queue) -> [Lease; 2] {
    let ids = queue
        .enqueue_all((0..2).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    let mut leases = Vec::new();
    for id in ids {
        let leased = lease(queue.pool(), super::APP, 1, "one", 1)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(leased.ids, [id]);
        assert!(start(queue.pool(), &leased).await);
        leases.push(leased);
    }
    leases.try_into().ok().unwrap()
}

#[tokio::test]
async fn several_leases_are_settled_in_one_call_and_one_that_is_gone_harms_no_other() {
    let queue = Queue::new().await;
    let [gone, here] = two_leases(&queue).await;
    queue
        .force("update notification_leases set worker = 'another' where lease_id = (select min(lease_id) from notification_leases)")
        .await;
    let settles = [
        (gone.clone(), vec![Outcome::sent(gone.ids[0])]),
        (
            here.clone(),
            vec![Outcome::dead(here.ids[0], 43101, "gone")],
        ),
    ];
    let answers = settle_together(queue.pool(), &settles).await.unwrap();
    assert_eq!(answers, [None, Some(vec![])]);
    assert_eq!(queue.state(gone.ids[0]).await, "pending");
    assert_eq!(queue.state(here.ids[0]).await, "dead");
    assert_eq!(queue.leases().await, 1);
}

#[tokio::test]
async fn a_row_that_somebody_holds_keeps_its_own_lease_alone_open() {
    let queue = Queue::new().await;
    let [one, two] = two_leases(&queue).await;
    let mut holder = queue.session().await;
    run(&mut holder, "begin").await;
    run(
        &mut holder,
        &format!(
            "select from pending_notifications where id = {} for update",
            one.ids[0]
        ),
    )
    .await;
    let settles = [one, two].map(|lease| {
        let outcomes = vec![Outcome::sent(lease.ids[0])];
        (lease, outcomes)
    });
    let answers = settle_together(queue.pool(), &settles).await.unwrap();
    let held = settles[0].0.ids[0];
    assert_eq!(answers, [Some(vec![held]), Some(vec![])]);
    run(&mut holder, "commit").await;
    let again = settle_together(queue.pool(), &settles).await.unwrap();
    assert_eq!(again, [Some(vec![]), None]);
    assert_eq!(queue.state(held).await, "sent");
}

#[tokio::test]
async fn values_the_database_refuses_leave_every_lease_of_the_call_as_it_was() {
    let queue = Queue::new().await;
    let settles = two_leases(&queue).await.map(|lease| {
        let outcomes = vec![Outcome::sent(lease.ids[0])];
        (lease, outcomes)
    });
    let mut spoilt = settles.clone();
    spoilt[1].1[0] = Outcome::dead(settles[1].0.ids[0], 1, "no such word");
    let refused = settle_together(queue.pool(), &spoilt).await.unwrap_err();
    assert_eq!(
        refused.as_database_error().unwrap().code().unwrap(),
        "23514"
    );
    for (lease, _) in &settles {
        assert_eq!(queue.state(lease.ids[0]).await, "pending");
    }
    let answers = settle_together(queue.pool(), &settles).await.unwrap();
    assert_eq!(answers, [Some(vec![]), Some(vec![])]);
}
