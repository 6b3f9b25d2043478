//! Rows that the database refuses to move to the history, because of what others hung on our tables; partitions that are missing;
//! locks that keep replies from being written.

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};

use super::{HASTY, Scene};
use crate::harness::eventually;

/// The row of user `kept` is refused by what `obstacle` makes; `{id}` in it is her row's id. It goes with `removal`.
async fn one_refused_row_costs_only_itself(obstacle: &str, removal: &str) {
    let scene = Scene::new().await;
    let kept = scene.insert("kept", json!({})).await;
    let others = scene.insert_many("other", 6, json!({})).await;
    let obstacle = obstacle.replace("{id}", &kept.to_string());
    execute(&scene, &obstacle).await;
    for _ in 0..3 {
        scene.run_until_empty(&HASTY).await;
    }
    scene.until_all(&others, "sent").await;
    let seen = scene.seen(kept).await;
    assert_eq!(seen.status, "in_doubt");
    let reason = seen.reason.unwrap();
    assert!(
        reason.starts_with("the database refuses to move it to the history: "),
        "{reason}"
    );
    assert!(!reason.contains("secret"), "no values: {reason}");
    assert_eq!(scene.sends_to("kept"), 1, "it is not sent again");
    scene.until_no_lease().await;

    execute(&scene, removal).await;
    scene
        .as_worker("update pending_notifications set due = clock_timestamp() - interval '1 hour'")
        .await;
    let running = scene.start(&HASTY);
    let seen = scene.until(kept, "sent").await;
    assert!(seen.msgid.is_some(), "its msgid was kept");
    assert_eq!(scene.sends_to("kept"), 1);
    running.stop().await;
}

async fn execute(scene: &Scene, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(scene.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_sent_row_that_a_foreign_key_keeps_costs_only_itself_and_is_never_sent_again() {
    one_refused_row_costs_only_itself(
        "create table orders (notification_id bigint references pending_notifications (id)); insert into orders values ({id})",
        "drop table orders",
    )
    .await;
}

#[tokio::test]
async fn so_does_one_whose_foreign_key_is_checked_at_the_commit() {
    one_refused_row_costs_only_itself(
        "create table orders (notification_id bigint references pending_notifications (id) deferrable initially deferred);
         insert into orders values ({id})",
        "drop table orders",
    )
    .await;
}

#[tokio::test]
async fn so_does_one_that_a_trigger_refuses_to_delete() {
    one_refused_row_costs_only_itself(
        "create function keep() returns trigger language plpgsql as $$ begin raise exception 'secret %', old.openid; end $$;
         create trigger keep after delete on pending_notifications for each row when (old.openid = 'kept') execute function keep()",
        "drop trigger keep on pending_notifications",
    )
    .await;
}

#[tokio::test]
async fn so_does_one_that_a_trigger_keeps_without_a_word() {
    one_refused_row_costs_only_itself(
        "create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
         create trigger keep before delete on pending_notifications for each row when (old.openid = 'kept') execute function keep()",
        "drop trigger keep on pending_notifications",
    )
    .await;
}

#[tokio::test]
async fn so_does_one_that_the_history_refuses() {
    one_refused_row_costs_only_itself(
        "alter table notification_history add constraint no_kept check (openid <> 'kept')",
        "alter table notification_history drop constraint no_kept",
    )
    .await;
}

#[tokio::test]
async fn so_does_one_whose_trigger_fails_by_itself() {
    one_refused_row_costs_only_itself(
        "create function audit() returns trigger language plpgsql as $$ begin insert into a_table_that_is_gone values (new.openid); return new; end $$;
         create trigger audit before insert on notification_history for each row when (new.openid = 'kept') execute function audit()",
        "drop trigger audit on notification_history",
    )
    .await;
}

#[tokio::test]
async fn with_a_rule_of_others_every_row_waits_and_none_is_sent_again() {
    let scene = Scene::new().await;
    let ids = scene.insert_many("user", 5, json!({})).await;
    execute(
        &scene,
        "create rule keep as on delete to pending_notifications do instead nothing",
    )
    .await;
    for _ in 0..2 {
        scene.run_until_empty(&HASTY).await;
    }
    assert_eq!(scene.count_with_status(&ids, "in_doubt").await, 5);
    assert_eq!(scene.sends(), 5);
    execute(&scene, "drop rule keep on pending_notifications").await;
    scene
        .as_worker("update pending_notifications set due = clock_timestamp() - interval '1 hour'")
        .await;
    let running = scene.start(&HASTY);
    scene.until_all(&ids, "sent").await;
    assert_eq!(scene.sends(), 5);
    running.stop().await;
}

#[tokio::test]
async fn a_missing_partition_is_made_when_a_settle_misses_it() {
    let scene = Scene::new().await;
    let running = scene.start(&HASTY);
    let first = scene.insert("user-1", json!({})).await;
    scene.until(first, "sent").await;
    let current = "(select tableoid::regclass::text from notification_history limit 1)";
    let detach = format!(
        "do $$ begin execute 'alter table notification_history detach partition ' || {current}; end $$"
    );
    execute(&scene, &detach).await;
    let second = scene.insert("user-2", json!({})).await;
    // A statement that is planned before the partition is there and takes its snapshot after the row has moved into it sees the row
    // nowhere: the view is asked once the row has arrived.
    let moved = "select count(*) from notification_history where openid = 'user-2'";
    eventually("the row is in the history", async || {
        (scene.count(moved).await == 1).then_some(())
    })
    .await;
    scene.until(second, "sent").await;
    assert_eq!(scene.sends_to("user-2"), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_lease_whose_replies_wait_to_be_written_does_not_lapse_while_its_worker_lives() {
    let scene = Scene::new().await;
    let ids = scene
        .insert_many("user", 40, json!({"on_doubt": "retry"}))
        .await;
    let mut indexer = scene.database.connect().await;
    let mut open = indexer.begin().await.unwrap();
    sqlx::raw_sql("lock table notification_history in share mode")
        .execute(&mut *open)
        .await
        .unwrap();
    let settings = [
        ("WXNOTIFY_REQUEST_TIMEOUT_SECS", "1"),
        ("WXNOTIFY_CONNECT_TIMEOUT_SECS", "0.5"),
        ("WXNOTIFY_LEASE_SECS", "6.6"),
        ("WXNOTIFY_STATEMENT_TIMEOUT_SECS", "2"),
        ("WXNOTIFY_CONCURRENCY", "40"),
        ("WXNOTIFY_DOUBT_WINDOW_SECS", "0.5"),
    ];
    let running = scene.start(&settings);
    scene.until_sends(40).await;
    // Another worker looks for leases to rescue, for twice as long as a lease lasts.
    let since = std::time::Instant::now();
    eventually("two leases' time has passed", async || {
        let rescued: i32 = sqlx::query_scalar("select wxnotify_rescue(0.5, 600)")
            .fetch_one(scene.pool())
            .await
            .unwrap();
        assert_eq!(rescued, 0, "after {:?}", since.elapsed());
        (since.elapsed().as_secs_f64() > 14.0).then_some(())
    })
    .await;
    open.rollback().await.unwrap();
    scene.until_all(&ids, "sent").await;
    assert_eq!(scene.sends(), 40, "nothing is sent twice");
    let doubts = "select count(*) from notification_attempts";
    assert_eq!(scene.count(doubts).await, 0);
    running.stop().await;
}
