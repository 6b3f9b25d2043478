//! The list that `notification_unconfirmed` reads instead of the history: whatever happens between its steps, the view says what the rows say.

use sqlx::Connection;

use crate::kernel::{APP, Queue};

/// A queue whose mini-program's receipts have arrived for ten days.
async fn queue() -> Queue {
    let queue = Queue::new().await;
    queue
        .force("update wechat_apps set first_receipt_at = now() - interval '10 days'")
        .await;
    queue
}

/// The statement that brings a sent row into the history.
fn sent(id: i64, hours_ago: f64) -> String {
    format!(
        "insert into notification_history (id, appid, status, kind, openid, template_id, data, miniprogram_state, lang, held, lane, on_doubt, attempts_max,
             created_at, producer, attempts, settled_by, msgid, finished_at)
         values ({id}, '{APP}', 'sent', 'one_time', 'user-{id}', 'template-1', '{{}}', 'formal', 'zh_CN', false, 1, 'retry', 8,
             now(), 'shop', 1, 'reply', {id}, now() - make_interval(secs => {hours_ago} * 3600))"
    )
}

async fn confirm(queue: &Queue, id: i64) {
    let statement = format!("update notification_history set receipt_at = now() where id = {id}");
    assert_eq!(queue.force(&statement).await, 1);
}

async fn ids(queue: &Queue, of: &str) -> Vec<i64> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "select id from {of} order by id"
    )))
    .fetch_all(queue.pool())
    .await
    .unwrap()
}

async fn keep(queue: &Queue) -> bool {
    sqlx::query_scalar("select wxnotify_keep_unconfirmed()")
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

/// Calls until the book has come as far as it may. Transactions of other tests on the same server hold it up, too.
async fn keep_all(queue: &Queue) {
    crate::harness::eventually("the book comes to its end", async || {
        while !keep(queue).await {}
        (kept_hours_ago(queue).await < 1.1).then_some(())
    })
    .await;
}

async fn kept_hours_ago(queue: &Queue) -> f64 {
    sqlx::query_scalar(
        "select coalesce(extract(epoch from now() - nullif(kept_until, '-infinity'))::float8 / 3600, 1e9) from notification_books",
    )
    .fetch_one(queue.pool())
    .await
    .unwrap()
}

/// It once went round for a tenth of a second at each call, from minus infinity to an hour later.
#[tokio::test]
async fn while_no_receipt_ever_came_the_book_has_nothing_to_go_through() {
    let queue = Queue::new().await;
    keep_all(&queue).await;
    assert_eq!(ids(&queue, "notification_unconfirmed").await, [0_i64; 0]);
    queue
        .force("update wechat_apps set first_receipt_at = now() - interval '1 minute'")
        .await;
    queue.force(&sent(1, 0.01)).await;
    keep_all(&queue).await;
    assert_eq!(
        ids(&queue, "notification_unconfirmed_ids").await,
        [0_i64; 0]
    );
}

#[tokio::test]
async fn the_view_says_the_same_before_and_after_the_list_is_made() {
    let queue = queue().await;
    for (id, hours_ago) in [(1, 200.0), (2, 3.0), (3, 1.5), (4, 0.5), (5, 260.0)] {
        queue.force(&sent(id, hours_ago)).await;
    }
    let young_and_older_than_receipts_are_left_out = [1, 2, 3];
    assert_eq!(
        ids(&queue, "notification_unconfirmed").await,
        young_and_older_than_receipts_are_left_out
    );
    keep_all(&queue).await;
    assert_eq!(ids(&queue, "notification_unconfirmed_ids").await, [1, 2, 3]);
    assert_eq!(ids(&queue, "notification_unconfirmed").await, [1, 2, 3]);
}

#[tokio::test]
async fn a_late_receipt_and_a_dropped_month_leave_the_view_at_once_and_the_list_soon() {
    let queue = queue().await;
    for id in 1..=3 {
        queue.force(&sent(id, 5.0)).await;
    }
    keep_all(&queue).await;
    confirm(&queue, 2).await;
    queue
        .force("delete from notification_history where id = 3")
        .await;
    assert_eq!(ids(&queue, "notification_unconfirmed").await, [1]);
    // One step ends the round of comparing that goes on, the next one begins anew.
    keep(&queue).await;
    keep(&queue).await;
    assert_eq!(ids(&queue, "notification_unconfirmed_ids").await, [1]);
}

/// A row that is committed behind the list would be in neither of the view's halves.
#[tokio::test]
async fn the_list_stays_behind_a_transaction_that_is_still_open() {
    let queue = queue().await;
    keep_all(&queue).await;
    queue
        .force("update notification_books set kept_until = now() - interval '5 hours'")
        .await;
    let mut slow = sqlx::PgConnection::connect(queue.url()).await.unwrap();
    let mut transaction = slow.begin().await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(sent(1, 3.0)))
        .execute(&mut *transaction)
        .await
        .unwrap();
    // What the book noted when this transaction had begun and its successors had not.
    queue
        .force(
            "update notification_books set next_until = now() - interval '1 hour', next_xid = pg_current_xact_id()::text::bigint",
        )
        .await;
    for _ in 0..5 {
        assert!(keep(&queue).await, "there is nothing to do but wait");
    }
    assert!(
        kept_hours_ago(&queue).await > 4.9,
        "it went past an open transaction"
    );

    transaction.commit().await.unwrap();
    assert_eq!(
        ids(&queue, "notification_unconfirmed").await,
        [1],
        "by the view's second half"
    );
    keep_all(&queue).await;
    assert_eq!(ids(&queue, "notification_unconfirmed_ids").await, [1]);
    assert_eq!(ids(&queue, "notification_unconfirmed").await, [1], "once");
}

#[tokio::test]
async fn a_step_that_is_rolled_back_is_taken_again_and_lists_nothing_twice() {
    let queue = queue().await;
    queue.force(&sent(1, 9.5 * 24.0)).await;
    keep(&queue).await;
    for end in ["rollback", "commit"] {
        let mut connection = sqlx::PgConnection::connect(queue.url()).await.unwrap();
        for _ in 0..2 {
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
                "begin; do $$ begin for i in 1..20 loop perform wxnotify_keep_unconfirmed(); end loop; end $$; {end}"
            )))
            .execute(&mut connection)
            .await
            .unwrap();
        }
        connection.close().await.unwrap();
        assert_eq!(ids(&queue, "notification_unconfirmed").await, [1], "{end}");
    }
    keep_all(&queue).await;
    assert_eq!(ids(&queue, "notification_unconfirmed_ids").await, [1]);
}

/// Transaction numbers begin anew on the server that a dump is restored on.
#[tokio::test]
async fn a_book_from_another_server_goes_on_and_skips_nothing() {
    let queue = queue().await;
    keep_all(&queue).await;
    queue.force(&sent(1, 3.0)).await;
    queue
        .force("update notification_books set kept_until = now() - interval '5 hours', next_xid = 4000000000000")
        .await;
    keep_all(&queue).await;
    assert_eq!(ids(&queue, "notification_unconfirmed_ids").await, [1]);
}

#[tokio::test]
async fn a_second_worker_does_not_wait_for_the_one_that_keeps_the_book() {
    let queue = queue().await;
    keep_all(&queue).await;
    let mut first = queue.pool().begin().await.unwrap();
    sqlx::query("select wxnotify_keep_unconfirmed()")
        .execute(&mut *first)
        .await
        .unwrap();
    crate::harness::in_time("the second one", async { assert!(keep(&queue).await) }).await;
    first.rollback().await.unwrap();
}
