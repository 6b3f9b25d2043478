//! The bell that wakes sleeping workers, and the rate that paces busy ones.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgPool, Row};

use super::{APP, Queue, insert, run};
use crate::harness::eventually;
use crate::security::Login;

const ARM_BELL: &str = include_str!("../../../sql/workers/arm_bell.sql");
const DISARM_BELL: &str = include_str!("../../../sql/workers/disarm_bell.sql");
const BELL_FENCE: &str = include_str!("../../../sql/workers/bell_fence.sql");
const BELL_STATE: &str = include_str!("../../../sql/workers/bell_state.sql");

/// The rings since the last call. A notification of our own marks the end, so nothing is waited for.
async fn rings(queue: &Queue, listener: &mut PgListener) -> usize {
    run(queue.pool(), "select pg_notify('wxnotify', 'end')").await;
    let mut rings = 0;
    while listener.recv().await.unwrap().payload() != "end" {
        rings += 1;
    }
    rings
}

async fn listen(queue: &Queue) -> PgListener {
    let mut listener = PgListener::connect_with(queue.pool()).await.unwrap();
    listener.listen("wxnotify").await.unwrap();
    listener
}

#[tokio::test]
async fn the_bell_rings_for_inserts_and_reschedules_only_while_a_worker_sleeps() {
    let queue = Queue::new().await;
    let mut listener = listen(&queue).await;
    queue.enqueue(json!({})).await;
    assert_eq!(rings(&queue, &mut listener).await, 0, "nobody sleeps");

    run(queue.pool(), ARM_BELL).await;
    let id = queue.enqueue(json!({})).await;
    assert_eq!(rings(&queue, &mut listener).await, 1);
    for change in [
        "send_at = now()",
        "held = true",
        "held = false",
        "expire_at = now() + interval '1 h'",
    ] {
        run(
            queue.pool(),
            &format!("update pending_notifications set {change} where id = {id}"),
        )
        .await;
        assert_eq!(rings(&queue, &mut listener).await, 1, "{change}");
    }
    run(queue.pool(), DISARM_BELL).await;
    queue.enqueue(json!({})).await;
    assert_eq!(rings(&queue, &mut listener).await, 0);
}

#[tokio::test]
async fn arming_a_credit_and_giving_rows_back_ring_the_bell() {
    let queue = Queue::new().await;
    let mut listener = listen(&queue).await;
    queue.enqueue(json!({"held": true})).await;
    run(queue.pool(), ARM_BELL).await;
    run(
        queue.pool(),
        &format!("select arm('{APP}', 'user-1', 'template-1', '{{\"thing1\": \"x\"}}')"),
    )
    .await;
    assert_eq!(rings(&queue, &mut listener).await, 1);

    let lease = queue.lease("stopping").await.unwrap();
    run(
        queue.pool(),
        &format!(
            "select wxnotify_release('{APP}', {}, 'stopping')",
            lease.lease_id
        ),
    )
    .await;
    assert_eq!(rings(&queue, &mut listener).await, 1);
    queue.lease("crashed").await.unwrap();
    queue.expire_leases().await;
    queue.rescue().await;
    assert_eq!(rings(&queue, &mut listener).await, 1);
}

/// The value of the sequence, as seconds from now.
async fn armed_for(queue: &Queue) -> i64 {
    sqlx::query_scalar(
        "select last_value - extract(epoch from clock_timestamp())::bigint from notification_bell",
    )
    .fetch_one(queue.pool())
    .await
    .unwrap()
}

/// As if the bell had been armed so long before.
async fn arm_until(queue: &Queue, secs: i64) {
    let arm = format!(
        "select setval('notification_bell', extract(epoch from clock_timestamp())::bigint + {secs})"
    );
    run(queue.pool(), &arm).await;
}

async fn is_armed(queue: &Queue) -> bool {
    let mut session = queue.session().await;
    state(&mut session).await.0
}

#[tokio::test]
async fn a_bell_that_the_dead_left_armed_runs_out_by_itself() {
    let queue = Queue::new().await;
    let mut listener = listen(&queue).await;
    run(queue.pool(), ARM_BELL).await;
    assert!((1..=60).contains(&armed_for(&queue).await));
    queue.enqueue(json!({})).await;
    assert_eq!(rings(&queue, &mut listener).await, 1);

    arm_until(&queue, -1).await;
    queue.enqueue(json!({})).await;
    assert_eq!(rings(&queue, &mut listener).await, 0, "nobody renewed it");
}

/// What ran out may have missed an INSERT, which only arming with a fence makes good.
#[tokio::test]
async fn a_sleeper_prolongs_a_bell_that_is_armed_and_never_one_that_has_run_out() {
    let queue = Queue::new().await;
    arm_until(&queue, 5).await;
    assert!(is_armed(&queue).await);
    assert!(armed_for(&queue).await > 10, "prolonged");
    arm_until(&queue, 15).await;
    assert!(is_armed(&queue).await);
    assert!(armed_for(&queue).await <= 15, "needs no prolonging yet");

    for silent in [-1, -100_000] {
        arm_until(&queue, silent).await;
        assert!(!is_armed(&queue).await);
        assert!(armed_for(&queue).await < 0, "left to who arms it anew");
    }
    run(queue.pool(), DISARM_BELL).await;
    assert!(!is_armed(&queue).await);
    assert!(armed_for(&queue).await < 0);
}

/// During an upgrade workers of the first level sleep beside new ones: they set 1, without an end.
#[tokio::test]
async fn sleepers_of_the_first_level_are_rung_for_until_a_new_one_takes_their_bell_over() {
    let queue = Queue::new().await;
    let mut listener = listen(&queue).await;
    run(queue.pool(), "select setval('notification_bell', 1)").await;
    queue.enqueue(json!({})).await;
    assert_eq!(rings(&queue, &mut listener).await, 1);
    assert!(is_armed(&queue).await);
    assert!(armed_for(&queue).await > 0, "from now on it has an end");
    queue.enqueue(json!({})).await;
    assert_eq!(rings(&queue, &mut listener).await, 1);
}

#[tokio::test]
async fn a_session_a_role_and_a_database_can_turn_the_bell_off() {
    let queue = Queue::new().await;
    let mut listener = listen(&queue).await;
    run(queue.pool(), ARM_BELL).await;
    let mut producer = queue.session().await;
    for (value, expected) in [
        ("off", 0),
        ("FALSE", 0),
        ("0", 0),
        ("no", 0),
        ("on", 1),
        ("", 1),
        ("perhaps", 1),
    ] {
        run(&mut producer, &format!("set wxnotify.bell = '{value}'")).await;
        insert(&mut producer, json!({})).await.unwrap();
        assert_eq!(rings(&queue, &mut listener).await, expected, "{value:?}");
    }
    run(&mut producer, "begin").await;
    run(&mut producer, "set local wxnotify.bell = off").await;
    insert(&mut producer, json!({})).await.unwrap();
    run(&mut producer, "commit").await;
    assert_eq!(rings(&queue, &mut listener).await, 0, "set local");

    let producer = Login::of("wxnotify_producer", queue.database()).await;
    let set = format!("alter role {} set wxnotify.bell = 'off'", producer.name);
    run(queue.pool(), &set).await;
    let fresh = PgPool::connect_with(producer.pool.connect_options().as_ref().clone())
        .await
        .unwrap();
    insert(&fresh, json!({})).await.unwrap();
    assert_eq!(rings(&queue, &mut listener).await, 0, "alter role");
    insert(&producer.pool, json!({})).await.unwrap();
    assert_eq!(
        rings(&queue, &mut listener).await,
        1,
        "sessions made before it"
    );

    run(
        queue.pool(),
        "do $$ begin execute format('alter database %I set wxnotify.bell = %L', current_database(), 'off'); end $$",
    )
    .await;
    insert(&mut queue.session().await, json!({})).await.unwrap();
    assert_eq!(rings(&queue, &mut listener).await, 0, "alter database");
}

async fn number(session: &mut PgConnection, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(session)
        .await
        .unwrap()
}

async fn oldest_transaction(session: &mut PgConnection) -> i64 {
    let (armed, oldest) = state(session).await;
    assert!(armed);
    oldest
}

/// Whether the bell is armed, and the oldest running transaction.
async fn state(session: &mut PgConnection) -> (bool, i64) {
    let state: (Option<i64>, String, bool, i64) =
        sqlx::query_as(BELL_STATE).fetch_one(session).await.unwrap();
    (state.2, state.3)
}

/// The S9 case: nobody rings for it, so the fence must keep the worker polling until it can be seen.
#[tokio::test]
async fn an_insert_before_the_arming_that_commits_after_the_last_poll_is_fenced() {
    let queue = Queue::new().await;
    let mut listener = listen(&queue).await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    let id = insert(&mut producer, json!({})).await.unwrap();

    let mut worker = queue.session().await;
    run(&mut worker, ARM_BELL).await;
    let fence = number(&mut worker, BELL_FENCE).await;
    assert!(queue.lease("one").await.is_none());
    assert!(
        oldest_transaction(&mut worker).await < fence,
        "the worker must not sleep yet"
    );

    run(&mut producer, "commit").await;
    assert_eq!(
        rings(&queue, &mut listener).await,
        0,
        "it was inserted before the arming"
    );
    // Transactions of other databases count as well, so it may take a moment.
    let deadline = Instant::now() + Duration::from_secs(60);
    while oldest_transaction(&mut worker).await < fence {
        assert!(Instant::now() < deadline, "the fence never opened");
        tokio::task::yield_now().await;
    }
    assert_eq!(
        queue.lease("one").await.unwrap().ids,
        [id],
        "the poll after the fence finds it"
    );
}

/// One that has a number by now may have looked at the bell before it was armed, however few have ended since.
#[tokio::test]
async fn the_fence_is_above_every_transaction_that_is_running() {
    let queue = Queue::new().await;
    let (mut producer, mut worker) = (queue.session().await, queue.session().await);
    run(&mut producer, "begin").await;
    insert(&mut producer, json!({})).await.unwrap();
    let of_producer = "select pg_current_xact_id()::text::bigint";
    let of_producer = number(&mut producer, of_producer).await;
    let fence = number(&mut worker, BELL_FENCE).await;
    assert!(of_producer < fence, "{of_producer} {fence}");
}

/// Why the bell is an AFTER trigger: by then the transaction has an id that the fence can see.
#[tokio::test]
async fn an_insert_that_has_passed_the_silent_bell_is_always_seen_by_the_fence() {
    for (timing, must_be_fenced) in [("after", true), ("before", false)] {
        let queue = Queue::new().await;
        run(queue.pool(), "drop trigger bell on pending_notifications").await;
        run(
            queue.pool(),
            &format!(
                "create trigger bell {timing} insert or update of send_at, held, expire_at on pending_notifications
                 for each statement execute function wxnotify_bell()"
            ),
        )
        .await;
        let mut listener = listen(&queue).await;
        let mut gate = queue.session().await;
        run(&mut gate, "select pg_advisory_lock(1)").await;
        let mut producer = queue.session().await;
        let waiting = super::backend(&mut producer).await;
        // The first row waits at the gate, when a BEFORE STATEMENT trigger has long looked at the bell.
        let insert = tokio::spawn(async move {
            let statement = "insert into pending_notifications (appid, openid, template_id, data)
                 select 'wxapp-one', 'user-1', 'template-1', '{\"thing1\": \"x\"}' from (select pg_advisory_xact_lock(1) offset 0) gate";
            run(&mut producer, statement).await
        });
        queue.until_blocked(waiting).await;

        let mut worker = queue.session().await;
        run(&mut worker, ARM_BELL).await;
        let fence = number(&mut worker, BELL_FENCE).await;
        // The fence waits for the producer only if it has an older transaction id by now.
        let fenced: bool = sqlx::query_scalar(
            "select coalesce(backend_xid::text::bigint < $2, false) from pg_stat_activity where pid = $1",
        )
        .bind(waiting)
        .bind(fence)
        .fetch_one(&mut worker)
        .await
        .unwrap();
        run(&mut gate, "select pg_advisory_unlock(1)").await;
        assert_eq!(insert.await.unwrap(), 1);

        let found_out = fenced || rings(&queue, &mut listener).await > 0;
        assert_eq!(found_out, must_be_fenced, "{timing}");
    }
}

async fn take(queue: &Queue, want: i32, workers: i32) -> i32 {
    sqlx::query_scalar("select wxnotify_take_rate($1, $2, $3)")
        .bind(APP)
        .bind(want)
        .bind(workers)
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

async fn set_rate(queue: &Queue, per_second: f32) {
    run(
        queue.pool(),
        &format!("update wechat_apps set rate_per_second = {per_second}"),
    )
    .await;
}

/// Lets so many milliseconds pass for the bucket.
async fn pass(queue: &Queue, ms: u32) {
    let earlier =
        format!("update wechat_rates set filled_at = filled_at - interval '{ms} milliseconds'");
    run(queue.pool(), &earlier).await;
}

/// The S7 case.
#[tokio::test]
async fn a_rate_granted_over_three_seconds_is_three_times_the_rate() {
    let queue = Queue::new().await;
    set_rate(&queue, 40.0).await;
    let began = Instant::now();
    let mut granted = f64::from(take(&queue, 1000, 1).await);
    assert!(granted <= 1.0, "it starts with one");
    for _ in 0..30 {
        pass(&queue, 100).await;
        loop {
            let slice = take(&queue, 1000, 2).await;
            assert!(slice <= 5, "an eighth of a second at most");
            granted += f64::from(slice);
            if slice == 0 {
                break;
            }
        }
    }
    let most = 1.0 + 40.0 * (3.0 + began.elapsed().as_secs_f64());
    assert!(
        (120.0..=most.ceil()).contains(&granted),
        "{granted} of {most}"
    );
}

#[tokio::test]
async fn an_idle_hour_saves_no_more_than_an_eighth_of_a_second() {
    let queue = Queue::new().await;
    set_rate(&queue, 100.0).await;
    take(&queue, 1, 1).await;
    pass(&queue, 3_600_000).await;
    assert_eq!(take(&queue, 1000, 1).await, 12);
}

#[tokio::test]
async fn a_worker_is_granted_its_share_of_a_second_at_most() {
    let queue = Queue::new().await;
    set_rate(&queue, 100.0).await;
    take(&queue, 1, 1).await;
    pass(&queue, 1000).await;
    assert_eq!(take(&queue, 1000, 10).await, 10);
}

#[tokio::test]
async fn crumbs_of_a_rate_are_kept_until_they_are_worth_a_lease() {
    let queue = Queue::new().await;
    set_rate(&queue, 1000.0).await;
    take(&queue, 1, 1).await;
    // One statement after the other without a way back in between: a twentieth of a second would be enough to grant.
    let of_few = async |want: i32| {
        let statements = format!(
            "update wechat_rates set tokens = 5, filled_at = clock_timestamp(); select wxnotify_take_rate('{APP}', {want}, 1)"
        );
        let row = sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).fetch_one(queue.pool());
        row.await.unwrap().get::<i32, _>(0)
    };
    eventually("crumbs are kept", async || {
        (of_few(1000).await == 0).then_some(())
    })
    .await;
    assert_eq!(of_few(3).await, 3, "no more is wanted");
    pass(&queue, 100).await;
    assert!(take(&queue, 1000, 1).await >= 50);
}

#[tokio::test]
async fn a_rate_below_one_grants_one_now_and_then() {
    let queue = Queue::new().await;
    set_rate(&queue, 0.01).await;
    assert_eq!(take(&queue, 5, 3).await, 1, "the first need not wait");
    pass(&queue, 1000).await;
    assert_eq!(take(&queue, 5, 3).await, 0);
    pass(&queue, 100_000).await;
    assert_eq!(take(&queue, 5, 3).await, 1);
}

#[tokio::test]
async fn without_a_rate_everything_is_granted() {
    let queue = Queue::new().await;
    assert_eq!(take(&queue, 1000, 3).await, 1000);
}
