//! Who gets which rows: one user at a time, no row twice, and what keeps a row back.

use std::collections::HashSet;

use serde_json::json;
use sqlx::PgConnection;
use tokio::task::JoinSet;

use super::{APP, Lease, Outcome, Queue, in_secs, insert, lease, lease_after, run, settle, start};

#[tokio::test]
async fn rows_come_in_the_order_they_fell_due() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..5).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    queue
        .force(&format!(
            "update pending_notifications set due = due - interval '1 h' where id = {}",
            ids[3]
        ))
        .await;

    let first = lease(queue.pool(), APP, 1, "one", 2)
        .await
        .unwrap()
        .unwrap();
    let second = lease(queue.pool(), APP, 1, "two", 9)
        .await
        .unwrap()
        .unwrap();

    assert_eq!(first.ids, [ids[3], ids[0]]);
    assert_eq!(second.ids, [ids[1], ids[2], ids[4]]);
    assert!(queue.lease("three").await.is_none());
}

#[tokio::test]
async fn one_user_is_in_one_lease_at_a_time_with_one_row_whatever_the_lane() {
    let queue = Queue::new().await;
    let normal = queue
        .enqueue_all([json!({}), json!({"template_id": "template-2"})])
        .await;
    let urgent = queue.enqueue(json!({"lane": 0})).await;
    let other_app_user = queue.enqueue(json!({"openid": "user-2", "lane": 0})).await;

    let first = queue.lease_and_start("one").await;
    let across = lease(queue.pool(), APP, 0, "two", 64)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.ids, [normal[0]]);
    assert_eq!(across.ids, [other_app_user]);
    assert!(
        queue.lease("three").await.is_none(),
        "the user's second row waits"
    );

    queue.settle(&first, &[Outcome::sent(normal[0])]).await;
    assert_eq!(
        lease(queue.pool(), APP, 0, "two", 64)
            .await
            .unwrap()
            .unwrap()
            .ids,
        [urgent]
    );
}

#[tokio::test]
async fn mini_programs_share_no_user() {
    let queue = Queue::new().await;
    queue.register("wxapp-two").await;
    queue.enqueue(json!({})).await;
    let other = queue.enqueue(json!({"appid": "wxapp-two"})).await;

    assert!(queue.lease("one").await.is_some());
    assert_eq!(
        lease(queue.pool(), "wxapp-two", 1, "one", 9)
            .await
            .unwrap()
            .unwrap()
            .ids,
        [other]
    );
}

#[tokio::test]
async fn nothing_of_an_unknown_or_paused_mini_program_is_leased() {
    let queue = Queue::new().await;
    queue.enqueue(json!({})).await;
    queue.enqueue(json!({"appid": "wx-unknown"})).await;
    run(
        queue.pool(),
        "update wechat_apps set paused_until = now() + interval '1 h'",
    )
    .await;

    assert!(queue.lease("one").await.is_none());
    assert!(
        lease(queue.pool(), "wx-unknown", 1, "one", 9)
            .await
            .unwrap()
            .is_none()
    );

    run(
        queue.pool(),
        "update wechat_apps set paused_until = now() - interval '1 s'",
    )
    .await;
    assert!(queue.lease("one").await.is_some());
}

#[tokio::test]
async fn a_probing_mini_program_gets_one_row_at_a_time() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..3).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    run(queue.pool(), "update wechat_apps set probing = true").await;

    let probe = queue.lease_and_start("one").await;
    assert_eq!(probe.ids, [ids[0]]);
    assert!(queue.lease("two").await.is_none(), "the probe is still out");

    queue.settle(&probe, &[Outcome::sent(ids[0])]).await;
    assert_eq!(queue.lease("two").await.unwrap().ids, [ids[1]]);
}

#[tokio::test]
async fn rows_of_a_paused_template_are_left_out() {
    let queue = Queue::new().await;
    queue.enqueue(json!({"template_id": "paused"})).await;
    let other = queue.enqueue(json!({"openid": "user-2"})).await;
    run(
        queue.pool(),
        &format!("insert into wechat_templates values ('{APP}', 'paused', now() + interval '1 h')"),
    )
    .await;

    assert_eq!(queue.lease("one").await.unwrap().ids, [other]);
    assert!(queue.lease("one").await.is_none());
}

#[tokio::test]
async fn expired_and_exhausted_rows_are_never_leased() {
    let queue = Queue::new().await;
    queue.enqueue(json!({"expire_at": in_secs(-1)})).await;
    let exhausted = queue
        .enqueue(json!({"openid": "user-2", "attempts_max": 1}))
        .await;
    let lease = queue.lease_and_start("one").await;
    assert_eq!(lease.ids, [exhausted]);
    queue.settle(&lease, &[Outcome::retry(exhausted)]).await;
    queue.make_due(exhausted).await;

    assert!(queue.lease("one").await.is_none());
}

#[tokio::test]
async fn a_row_that_a_producer_holds_open_is_passed_over() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all([json!({}), json!({"openid": "user-2"})])
        .await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    run(
        &mut producer,
        &format!(
            "update pending_notifications set page = 'p' where id = {}",
            ids[0]
        ),
    )
    .await;

    assert_eq!(queue.lease("one").await.unwrap().ids, [ids[1]]);
    run(&mut producer, "rollback").await;
    assert_eq!(queue.lease("one").await.unwrap().ids, [ids[0]]);
}

#[tokio::test]
async fn every_verb_of_the_kernel_refuses_other_isolation_levels() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let calls = [
        format!("select wxnotify_lease('{APP}', 1::smallint, 'w', '-infinity', 0, 0, 9, 30)"),
        format!(
            "select wxnotify_lease_many(array['{APP}'], array[1::smallint], array['-infinity'::timestamptz], array[0], array[0], 'w', 9, 9, 30)"
        ),
        "select wxnotify_settle_many('w', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', 1, 1)"
            .to_owned(),
        format!(
            "select wxnotify_settle('{APP}', 1, 'w', true, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', 1, 1)"
        ),
        "select wxnotify_rescue(1, 1)".to_owned(),
        format!("select wxnotify_weigh('{APP}')"),
        format!("select wxnotify_decide('{APP}', {id}, 'sent', 'operator')"),
        format!(
            "select wxnotify_offer_late_reply('{APP}', {id}, 1, now(), 'w', true, false, 0, null, null, 1)"
        ),
        format!("select wxnotify_tidy('{APP}', 1::smallint)"),
        format!("update pending_notifications set page = 'p' where id = {id}"),
        format!("delete from pending_notifications where id = {id}"),
    ];
    for level in ["repeatable read", "serializable"] {
        for call in &calls {
            let mut session = queue.session().await;
            run(
                &mut session,
                &format!("set default_transaction_isolation = '{level}'"),
            )
            .await;
            let error = sqlx::query(sqlx::AssertSqlSafe(call.clone()))
                .execute(&mut session)
                .await
                .unwrap_err();
            assert!(
                error.to_string().contains("READ COMMITTED"),
                "{level}, {call}: {error}"
            );
        }
    }
    assert_eq!(queue.state(id).await, "pending");
}

/// Inserting and arming are a producer's, who may use any level.
#[tokio::test]
async fn producers_insert_and_arm_in_any_isolation_level() {
    let queue = Queue::new().await;
    for level in ["read committed", "repeatable read", "serializable"] {
        let mut session = queue.session().await;
        run(
            &mut session,
            &format!("set default_transaction_isolation = '{level}'"),
        )
        .await;
        let id = insert(
            &mut session,
            json!({"openid": level, "held": true, "data": {}}),
        )
        .await
        .unwrap();
        let armed: Option<i64> =
            sqlx::query_scalar("select arm($1, $2, 'template-1', '{\"thing1\": \"now\"}')")
                .bind(APP)
                .bind(level)
                .fetch_one(&mut session)
                .await
                .unwrap();
        assert_eq!(armed, Some(id), "{level}");
    }
    assert_eq!(queue.lease("one").await.unwrap().ids.len(), 3);
}

#[tokio::test]
async fn a_watermark_starts_the_pick_after_itself() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..3).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    let watermark = (queue.pending(ids[1]).await.due.unwrap(), ids[1]);

    let after = lease_after(queue.pool(), APP, 1, "one", 9, watermark, 0)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(after.ids, [ids[2]]);
    assert!(
        lease_after(queue.pool(), APP, 1, "one", 9, watermark, 0)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(queue.lease("one").await.unwrap().ids, ids[..2]);
}

#[tokio::test]
async fn every_lease_says_which_live_lease_is_the_oldest() {
    let queue = Queue::new().await;
    queue
        .enqueue_all((0..4).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(
            lease(queue.pool(), APP, 1, "one", 1)
                .await
                .unwrap()
                .unwrap(),
        );
    }
    assert_eq!(
        leases
            .iter()
            .map(|l| l.low_lease_id)
            .collect::<HashSet<_>>(),
        HashSet::from([leases[0].lease_id])
    );

    assert!(start(queue.pool(), &leases[0]).await);
    queue
        .settle(&leases[0], &[Outcome::sent(leases[0].ids[0])])
        .await;
    assert_eq!(
        queue.lease("one").await.unwrap().low_lease_id,
        leases[1].lease_id
    );
}

/// The S8 case: the row that may be what kills workers must not take four neighbours along again.
#[tokio::test]
async fn a_row_that_was_rescued_twice_among_five_is_leased_alone() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..5).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    queue
        .force(&format!(
            "update pending_notifications set rescues = 2 where id = {}",
            ids[2]
        ))
        .await;

    let before = queue.lease("one").await.unwrap();
    let alone = queue.lease("two").await.unwrap();
    let after = queue.lease("three").await.unwrap();

    assert_eq!(before.ids, ids[..2], "it ends the batch before it");
    assert_eq!(alone.ids, ids[2..3], "then it is the batch");
    assert_eq!(after.ids, ids[3..]);
}

/// Five rows of one crash: which of them killed the worker is not known, so no two of them share a lease again.
#[tokio::test]
async fn rows_that_were_rescued_once_are_leased_apart_but_among_others() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..5).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    for suspect in [ids[1], ids[3]] {
        queue
            .force(&format!(
                "update pending_notifications set rescues = 1 where id = {suspect}"
            ))
            .await;
    }
    assert_eq!(queue.lease("one").await.unwrap().ids, ids[..3]);
    assert_eq!(queue.lease("two").await.unwrap().ids, ids[3..]);
}

#[tokio::test]
async fn a_row_that_aborts_its_worker_harms_no_neighbour_twice() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..4).map(|n| json!({"openid": format!("user-{n}"), "attempts_max": 20})))
        .await;
    let killer = ids[1];
    // A worker dies on it again and again; whoever shares its lease is in doubt as well.
    let mut harmed = vec![0; ids.len()];
    for _ in 0..6 {
        while let Some(lease) = queue.lease("doomed").await {
            assert!(start(queue.pool(), &lease).await);
            if lease.ids.contains(&killer) {
                lease
                    .ids
                    .iter()
                    .for_each(|id| harmed[ids.iter().position(|i| i == id).unwrap()] += 1);
                queue.expire_leases().await;
                assert_eq!(
                    queue.rescue().await,
                    i32::try_from(lease.ids.len()).unwrap()
                );
                break;
            }
            let outcomes = lease
                .ids
                .iter()
                .map(|id| Outcome::retry(*id))
                .collect::<Vec<_>>();
            queue.settle(&lease, &outcomes).await;
        }
        queue
            .force("update pending_notifications set due = clock_timestamp() - interval '5 s'")
            .await;
    }
    assert!(harmed[1] > 2, "{harmed:?}");
    assert!(
        harmed
            .iter()
            .enumerate()
            .all(|(n, times)| n == 1 || *times <= 1),
        "{harmed:?}"
    );
}

#[tokio::test]
async fn several_lanes_are_leased_in_one_call_and_a_busy_mini_program_is_passed_over() {
    let queue = Queue::new().await;
    queue.register("wxapp-two").await;
    queue
        .enqueue_all([
            json!({}),
            json!({"lane": 0, "openid": "user-2"}),
            json!({"appid": "wxapp-two"}),
        ])
        .await;
    let mut other = queue.session().await;
    run(&mut other, "begin").await;
    run(&mut other, "select wxnotify_lock_app('wxapp-two')").await;

    let mut session = queue.session().await;
    let lanes = [("wxapp-two", 1), (APP, 0), (APP, 1)];
    assert_eq!(
        lease_many(&mut session, &lanes, 9).await,
        [(APP.to_owned(), 0), (APP.to_owned(), 1)]
    );
    assert_eq!(queue.leases().await, 2);
}

/// Leases up to 9 rows of each lane and about `total` in all; returns the lane of each leased row.
async fn lease_many(
    session: &mut sqlx::PgConnection,
    lanes: &[(&str, i16)],
    total: i32,
) -> Vec<(String, i16)> {
    let (appids, numbers): (Vec<&str>, Vec<i16>) = lanes.iter().copied().unzip();
    sqlx::query_as(
        "select appid, lane from wxnotify_lease_many($1, $2, array_fill('-infinity'::timestamptz, array[$3]), array_fill(0::bigint, array[$3]),
             array_fill(0::bigint, array[$3]), 'one', 9, $4, 30)",
    )
    .bind(appids)
    .bind(numbers)
    .bind(i32::try_from(lanes.len()).unwrap())
    .bind(total)
    .fetch_all(session)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_call_for_several_lanes_ends_behind_the_lane_that_makes_the_total() {
    let queue = Queue::new().await;
    for lane in 0..3 {
        let row = |n| json!({"lane": lane, "openid": format!("user-{lane}-{n}")});
        queue.enqueue_all((0..2).map(row)).await;
    }
    let mut session = queue.session().await;
    let lanes = [(APP, 0), (APP, 1), (APP, 2)];
    let leased = lease_many(&mut session, &lanes, 3).await;
    let lanes: Vec<i16> = leased.iter().map(|(_, lane)| *lane).collect();
    assert_eq!(lanes, [0, 0, 1, 1]);
    assert_eq!(queue.leases().await, 2);
}

#[tokio::test]
async fn ready_names_the_lanes_with_something_due() {
    let queue = Queue::new().await;
    queue
        .enqueue_all([
            json!({}),
            json!({"lane": 2}),
            json!({"lane": 0, "send_at": in_secs(600)}),
            json!({"appid": "wx-another", "lane": 0}),
            json!({"appid": "wx-held", "held": true}),
        ])
        .await;
    let ready: Vec<(String, i16)> =
        sqlx::query_as("select appid, lane from wxnotify_ready() order by 1, 2")
            .fetch_all(queue.pool())
            .await
            .unwrap();
    assert_eq!(
        ready,
        [
            ("wx-another".to_owned(), 0),
            (APP.to_owned(), 1),
            (APP.to_owned(), 2)
        ]
    );
}

/// A worker whose call to lease ended unclearly gives up what it does not know: it sent nothing of that.
#[tokio::test]
async fn unknown_leases_are_dropped_unless_they_were_started_later() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..4).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    let mut leases = Vec::new();
    for worker in ["one", "one", "one", "other"] {
        leases.push(
            lease(queue.pool(), APP, 1, worker, 1)
                .await
                .unwrap()
                .unwrap(),
        );
    }
    assert!(start(queue.pool(), &leases[1]).await);

    let dropped: i32 = sqlx::query_scalar("select wxnotify_drop_unknown('one', $1)")
        .bind(vec![leases[0].lease_id])
        .fetch_one(queue.pool())
        .await
        .unwrap();

    assert_eq!(dropped, 1);
    for known in [&leases[0], &leases[1], &leases[3]] {
        assert!(start(queue.pool(), known).await);
    }
    assert!(!start(queue.pool(), &leases[2]).await);
    assert_eq!(queue.lease("two").await.unwrap().ids, ids[2..3]);
}

/// Leases, notes the ids, settles them all as sent, until nothing is left; returns the ids.
async fn drain(mut session: PgConnection, worker: String) -> Vec<i64> {
    let mut ids = Vec::new();
    let mut low = 0;
    while let Some(lease) = lease_after(
        &mut session,
        APP,
        1,
        &worker,
        500,
        (chrono::DateTime::UNIX_EPOCH, 0),
        low,
    )
    .await
    .unwrap()
    {
        low = lease.low_lease_id;
        assert!(start(&mut session, &lease).await);
        ids.extend(&lease.ids);
        let outcomes = lease
            .ids
            .iter()
            .map(|id| Outcome::sent(*id))
            .collect::<Vec<_>>();
        assert_eq!(
            settle(&mut session, &lease, true, &outcomes).await.unwrap(),
            Some(vec![])
        );
    }
    ids
}

#[tokio::test]
async fn sixteen_leasers_over_a_hundred_thousand_rows_lease_each_once() {
    let queue = Queue::new().await;
    queue.enqueue_many(APP, 100_000).await;
    let mut leasers = JoinSet::new();
    for n in 0..16 {
        leasers.spawn(drain(queue.session().await, format!("leaser-{n}")));
    }
    let ids = leasers.join_all().await.concat();

    assert_eq!(ids.len(), 100_000);
    assert_eq!(ids.into_iter().collect::<HashSet<_>>().len(), 100_000);
    let (sent, distinct, left): (i64, i64, i64) = sqlx::query_as(
        "select count(*), count(distinct id), (select count(*) from pending_notifications) from notification_history
         where status = 'sent'",
    )
    .fetch_one(queue.pool())
    .await
    .unwrap();
    assert_eq!((sent, distinct, left), (100_000, 100_000, 0));
    assert_eq!(queue.leases().await, 0);
}

#[tokio::test]
async fn the_epoch_in_a_workers_name_fences_its_predecessor() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("host/7").await;
    let predecessor = Lease {
        worker: "host/6".to_owned(),
        ..lease.clone()
    };

    assert!(!start(queue.pool(), &predecessor).await);
    assert_eq!(
        settle(queue.pool(), &predecessor, true, &[Outcome::sent(id)])
            .await
            .unwrap(),
        None
    );
    queue.settle(&lease, &[Outcome::sent(id)]).await;
}
