//! Keeping the front of a lane clean: what ends there, and what is put off.

use chrono::Utc;
use serde_json::json;

use super::{APP, Outcome, Queue, backend, in_secs, run};

async fn pause_template(queue: &Queue, template_id: &str) {
    let statement =
        format!("insert into wechat_templates values ('{APP}', '{template_id}', 'infinity')");
    run(queue.pool(), &statement).await;
}

/// Seconds until a row is due.
async fn wait_secs(queue: &Queue, id: i64) -> f64 {
    (queue.pending(id).await.due.unwrap() - Utc::now()).as_seconds_f64()
}

#[tokio::test]
async fn held_paused_and_unknown_rows_expire_at_their_end() {
    let queue = Queue::new().await;
    pause_template(&queue, "paused").await;
    run(
        queue.pool(),
        "insert into wechat_apps (appid, paused_until) values ('wx-paused', 'infinity')",
    )
    .await;
    let ids = queue
        .enqueue_all([
            json!({"held": true, "expire_at": in_secs(-1)}),
            json!({"template_id": "paused", "expire_at": in_secs(-1)}),
            json!({"appid": "wx-paused", "expire_at": in_secs(-1)}),
            json!({"appid": "wx-unknown", "expire_at": in_secs(-1)}),
        ])
        .await;
    for (appid, ended) in [(APP, 2), ("wx-paused", 1), ("wx-unknown", 1)] {
        assert_eq!(queue.tidy(appid).await, ended, "{appid}");
    }
    for id in ids {
        let row = queue.history(id).await;
        assert_eq!(
            (row.status.as_str(), row.settled_by.as_str(), row.attempts),
            ("expired", "policy", 0)
        );
    }
}

#[tokio::test]
async fn a_parked_row_is_due_again_at_its_end() {
    let queue = Queue::new().await;
    pause_template(&queue, "paused").await;
    run(
        queue.pool(),
        "insert into wechat_apps (appid, paused_until) values ('wx-paused', 'infinity')",
    )
    .await;
    let in_paused_template = queue
        .enqueue(json!({"template_id": "paused", "expire_at": in_secs(60)}))
        .await;
    let in_paused_app = queue
        .enqueue(json!({"appid": "wx-paused", "expire_at": in_secs(60)}))
        .await;
    let in_unknown_app = queue
        .enqueue(json!({"appid": "wx-unknown", "expire_at": in_secs(60)}))
        .await;
    let endless = queue
        .enqueue(json!({"template_id": "paused", "openid": "user-2"}))
        .await;
    for appid in [APP, "wx-paused", "wx-unknown"] {
        queue.tidy(appid).await;
    }
    assert_eq!(queue.state(in_paused_template).await, "pending: template");
    assert_eq!(queue.state(in_paused_app).await, "pending: app");
    assert_eq!(queue.state(in_unknown_app).await, "pending: app");
    for id in [in_paused_template, in_paused_app, in_unknown_app] {
        assert!(wait_secs(&queue, id).await <= 60.0);
    }
    let wait = wait_secs(&queue, endless).await;
    assert!((400.0..=760.0).contains(&wait), "parks are finite: {wait}");
}

#[tokio::test]
async fn parked_rows_leave_the_front_at_once() {
    let queue = Queue::new().await;
    pause_template(&queue, "paused").await;
    run(
        queue.pool(),
        &format!(
            "insert into pending_notifications (appid, openid, template_id, data)
             select '{APP}', 'user-' || n, 'paused', '{{\"thing1\": \"x\"}}' from generate_series(1, 2500) n"
        ),
    )
    .await;
    assert_eq!(queue.tidy(APP).await, 1000, "a bounded batch");
    assert_eq!(queue.tidy(APP).await, 1000);
    assert_eq!(queue.tidy(APP).await, 500);
    assert_eq!(queue.tidy(APP).await, 0);
}

#[tokio::test]
async fn rows_out_of_attempts_are_dead_lettered() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"attempts_max": 2})).await;
    for _ in 0..2 {
        let lease = queue.lease_and_start("one").await;
        queue
            .settle(
                &lease,
                &[Outcome {
                    delay_secs: 0.0,
                    ..Outcome::retry(id)
                }],
            )
            .await;
        queue.make_due(id).await;
    }
    assert_eq!(queue.tidy(APP).await, 1);
    let row = queue.history(id).await;
    assert_eq!(
        (row.status.as_str(), row.attempts, row.credit.as_deref()),
        ("dead", 2, Some("unknown"))
    );
    assert_eq!(row.errcode, Some(-1), "the last errcode is kept");
}

#[tokio::test]
async fn rows_behind_a_busy_user_or_a_doubt_are_put_off_and_come_back() {
    let queue = Queue::new().await;
    let doubt = queue.enqueue(json!({})).await;
    let pair = queue.enqueue(json!({})).await;
    queue.lease_and_start("vanished").await;
    assert_eq!(queue.tidy(APP).await, 1);
    assert_eq!(queue.state(pair).await, "pending: user");

    queue.expire_leases().await;
    queue.rescue().await;
    queue.make_due(pair).await;
    assert_eq!(queue.tidy(APP).await, 1);
    assert_eq!(queue.state(pair).await, "pending: pair");
    assert!(wait_secs(&queue, pair).await < 700.0);

    queue.event("user-1", 77, 0).await;
    assert_eq!(queue.weigh().await, 1);
    queue.history(doubt).await;
    queue.make_due(pair).await;
    assert_eq!(queue.lease("one").await.unwrap().ids, [pair]);
}

#[tokio::test]
async fn tidying_leaves_rows_alone_that_are_leased_or_held_open_or_sendable() {
    let queue = Queue::new().await;
    let leased = queue.enqueue(json!({"expire_at": in_secs(600)})).await;
    queue.lease_and_start("one").await;
    queue.force("update pending_notifications set expire_at = now() - interval '1 s', due = now() - interval '1 s'").await;
    let held_open = queue
        .enqueue(json!({"openid": "user-2", "expire_at": in_secs(-1)}))
        .await;
    let sendable = queue.enqueue(json!({"openid": "user-3"})).await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    run(
        &mut producer,
        &format!("select from pending_notifications where id = {held_open} for update"),
    )
    .await;

    assert_eq!(queue.tidy(APP).await, 0);
    for id in [leased, held_open, sendable] {
        assert_eq!(queue.state(id).await, "pending");
    }
}
/// The S6 case: rows that a tidy parks while the pause ends must not stay parked.
#[tokio::test]
async fn a_resume_beside_a_tidy_that_has_parked_and_not_committed_wakes_every_row() {
    let queue = Queue::new().await;
    pause_template(&queue, "template-1").await;
    let ids = queue
        .enqueue_all((0..3).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    let mut tidier = queue.session().await;
    run(&mut tidier, "begin").await;
    run(
        &mut tidier,
        &format!("select wxnotify_tidy('{APP}', 1::smallint)"),
    )
    .await;

    let mut operator = queue.session().await;
    let waiting = backend(&mut operator).await;
    let resume = tokio::spawn(async move {
        run(
            &mut operator,
            &format!("select resume_template('{APP}', 'template-1')"),
        )
        .await
    });
    queue.until_blocked(waiting).await;
    run(&mut tidier, "commit").await;
    resume.await.unwrap();

    assert_eq!(queue.lease("one").await.unwrap().ids.len(), ids.len());
}
