//! What others hang on our tables: foreign keys, triggers, rules, columns, detached partitions. One row that the database refuses
//! to move to the history costs only itself.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};

use super::{APP, Lease, Outcome, Queue, in_secs, insert, lease, run, start};

/// Somebody's table that points at notifications, and a row of it that points at this one.
async fn point_at(queue: &Queue, id: i64) {
    run(
        queue.pool(),
        "create table if not exists orders (notification_id bigint references pending_notifications (id))",
    )
    .await;
    run(queue.pool(), &format!("insert into orders values ({id})")).await;
}

/// As [`point_at`], checked at the commit.
async fn point_at_until_commit(queue: &Queue, id: i64) {
    run(
        queue.pool(),
        "create table orders (notification_id bigint references pending_notifications (id) deferrable initially deferred)",
    )
    .await;
    run(queue.pool(), &format!("insert into orders values ({id})")).await;
}

async fn refusal(queue: &Queue, id: i64) -> String {
    let statement = "select last_errmsg from pending_notifications where id = $1 and waiting_for = 'obstacle' and due > now() + interval '5 minutes'";
    let said: Option<String> = sqlx::query_scalar(statement)
        .bind(id)
        .fetch_one(queue.pool())
        .await
        .unwrap();
    said.unwrap()
}

async fn text(queue: &Queue, statement: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned()))
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

/// Twenty rows past their end, one of which is kept.
async fn expire_beside(queue: &Queue, ids: &[i64], kept: i64) {
    queue.tidy(APP).await;
    for id in ids.iter().filter(|id| **id != kept) {
        assert_eq!(queue.state(*id).await, "expired");
    }
    let said = refusal(queue, kept).await;
    assert!(said.contains("violates foreign key constraint"), "{said}");
    let seen = text(
        queue,
        &format!("select status || ': ' || reason from notifications where id = {kept}"),
    )
    .await;
    assert!(seen.starts_with("due: the database refuses"), "{seen}");
    assert!(
        queue.lease("w").await.is_none(),
        "what has expired is not leased"
    );
    run(queue.pool(), "drop table orders").await;
    queue.make_due(kept).await;
    queue.tidy(APP).await;
    assert_eq!(queue.history(kept).await.status, "expired");
}

#[tokio::test]
async fn of_rows_that_expire_one_that_a_foreign_key_keeps_costs_only_itself() {
    let queue = Queue::new().await;
    let rows = (0..20).map(|n| json!({"openid": format!("user-{n}"), "expire_at": in_secs(-60)}));
    let ids = queue.enqueue_all(rows).await;
    point_at(&queue, ids[7]).await;
    expire_beside(&queue, &ids, ids[7]).await;
}

#[tokio::test]
async fn so_does_one_that_is_kept_at_the_commit() {
    let queue = Queue::new().await;
    let rows = (0..20).map(|n| json!({"openid": format!("user-{n}"), "expire_at": in_secs(-60)}));
    let ids = queue.enqueue_all(rows).await;
    point_at_until_commit(&queue, ids[19]).await;
    expire_beside(&queue, &ids, ids[19]).await;
}

#[tokio::test]
async fn a_row_out_of_attempts_that_is_kept_ends_dead_once_it_may() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"attempts_max": 1})).await;
    let lease = queue.lease_and_start("w").await;
    queue.settle(&lease, &[Outcome::retry(id)]).await;
    queue.make_due(id).await;
    point_at(&queue, id).await;
    queue.tidy(APP).await;
    assert!(refusal(&queue, id).await.contains("foreign key"));
    queue.make_due(id).await;
    assert!(queue.lease("w").await.is_none(), "it is not sent again");
    run(queue.pool(), "drop table orders").await;
    queue.tidy(APP).await;
    let row = queue.history(id).await;
    assert_eq!((row.status.as_str(), row.attempts), ("dead", 1));
}

#[tokio::test]
async fn evidence_ends_other_doubts_beside_one_that_is_kept_and_that_one_later() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..3).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    let lease = queue.lease_and_start("w").await;
    let doubts: Vec<_> = ids.iter().map(|id| Outcome::doubt(*id)).collect();
    queue.settle(&lease, &doubts).await;
    point_at(&queue, ids[0]).await;
    for (n, id) in ids.iter().enumerate() {
        queue.event(&format!("user-{n}"), 1000 + id, 1).await;
    }
    assert_eq!(queue.weigh().await, 2);
    assert!(refusal(&queue, ids[0]).await.contains("foreign key"));
    run(queue.pool(), "drop table orders").await;
    queue.make_due(ids[0]).await;
    queue.tidy(APP).await;
    let row = queue.history(ids[0]).await;
    assert_eq!(
        (row.status.as_str(), row.msgid),
        ("sent", Some(1000 + ids[0]))
    );
}

#[tokio::test]
async fn a_late_reply_of_a_row_that_is_kept_is_not_forgotten() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("w").await;
    queue.expire_leases().await;
    assert_eq!(queue.rescue().await, 1);
    point_at(&queue, id).await;
    let offer = format!(
        "select wxnotify_offer_late_reply('{APP}', {id}, {}, (select in_doubt_since from pending_notifications where id = {id}), 'w',
             true, false, 0, null, null, 4711)",
        lease.lease_id
    );
    run(queue.pool(), &offer).await;
    assert!(refusal(&queue, id).await.contains("foreign key"));
    run(queue.pool(), "drop table orders").await;
    queue.make_due(id).await;
    assert!(queue.lease("w").await.is_none(), "it is not sent again");
    queue.tidy(APP).await;
    let row = queue.history(id).await;
    assert_eq!((row.status.as_str(), row.msgid), ("sent", Some(4711)));
}

#[tokio::test]
async fn a_row_that_is_kept_holds_up_nobody_elses_message_to_its_user() {
    let queue = Queue::new().await;
    let kept = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("w").await;
    queue.settle(&lease, &[Outcome::doubt(kept)]).await;
    point_at(&queue, kept).await;
    queue.event("user-1", 1, 1).await;
    queue.weigh().await;
    assert!(refusal(&queue, kept).await.contains("foreign key"));
    let next = queue.enqueue(json!({})).await;
    assert_eq!(queue.lease_and_start("w").await.ids, [next]);
}

#[tokio::test]
async fn of_rows_that_are_cancelled_one_that_is_kept_is_named() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all((0..5).map(|n| json!({"openid": format!("user-{n}")})))
        .await;
    point_at(&queue, ids[2]).await;
    let statement = "select id, result from cancel_notifications($1)";
    let results: Vec<(i64, String)> = sqlx::query_as(statement)
        .bind(&ids)
        .fetch_all(queue.pool())
        .await
        .unwrap();
    for (id, result) in results {
        let expected = if id == ids[2] {
            "kept by the database"
        } else {
            "cancelled"
        };
        assert_eq!(result, expected);
    }
    assert_eq!(queue.state(ids[2]).await, "pending");
    let changed = text(&queue, "select rows_changed::text from operator_actions").await;
    assert_eq!(changed, "4");
}

#[tokio::test]
async fn a_doubt_that_is_kept_is_not_said_to_be_confirmed() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("w").await;
    queue.settle(&lease, &[Outcome::doubt(id)]).await;
    point_at(&queue, id).await;
    let answer = text(&queue, &format!("select confirm_sent({id})")).await;
    assert_eq!(answer, "kept by the database");
    assert_eq!(queue.state(id).await, "pending: doubt");
}

#[tokio::test]
async fn of_login_codes_that_expired_one_whose_row_is_kept_costs_only_itself() {
    let queue = Queue::new().await;
    let rows = (0..3).map(|n| json!({"openid": null, "login_code": format!("code-{n}")}));
    let ids = queue.enqueue_all(rows).await;
    queue
        .force("update pending_notifications set login_at = now() - interval '9 minutes', login_until = now() - interval '4 minutes'")
        .await;
    point_at(&queue, ids[1]).await;
    for _ in 0..2 {
        run(
            queue.pool(),
            &format!("select wxnotify_claim_logins('{{{APP}}}', 10, 30)"),
        )
        .await;
    }
    assert_eq!(queue.state(ids[0]).await, "dead");
    assert_eq!(queue.state(ids[2]).await, "dead");
    assert!(refusal(&queue, ids[1]).await.contains("foreign key"));
}

#[tokio::test]
async fn a_duplicate_that_is_kept_stops_no_lease() {
    let queue = Queue::new().await;
    let winner = queue.enqueue(json!({"dedup_key": "k"})).await;
    let lease = queue.lease_and_start("w").await;
    queue.settle(&lease, &[Outcome::sent(winner)]).await;
    let loser = queue
        .enqueue(json!({"dedup_key": "k", "openid": "user-2"}))
        .await;
    let other = queue.enqueue(json!({"openid": "user-3"})).await;
    point_at(&queue, loser).await;
    assert_eq!(queue.lease_and_start("w").await.ids, [other]);
    assert!(refusal(&queue, loser).await.contains("foreign key"));
}

/// Leases of one row each, of sends that began and whose worker is gone.
async fn crash(queue: &Queue, appid: &str, count: i32) -> Vec<Lease> {
    queue.enqueue_many(appid, count).await;
    let mut leases = Vec::new();
    for _ in 0..count {
        let one = lease(queue.pool(), appid, 1, "gone", 1)
            .await
            .unwrap()
            .unwrap();
        assert!(start(queue.pool(), &one).await);
        leases.push(one);
    }
    queue.expire_leases().await;
    leases
}

#[tokio::test]
async fn crashed_leases_whose_rows_somebody_holds_keep_no_others_from_rescue() {
    let queue = Queue::new().await;
    queue.register("wxapp-two").await;
    crash(&queue, APP, 45).await;
    crash(&queue, "wxapp-two", 15).await;
    let mut holder = queue.session().await;
    let mut open = holder.begin().await.unwrap();
    run(
        &mut *open,
        &format!("select from pending_notifications where appid = '{APP}' for update"),
    )
    .await;
    assert_eq!(queue.rescue().await, 15);
    open.rollback().await.unwrap();
    let mut rescued = 0;
    for _ in 0..3 {
        rescued += queue.rescue().await;
    }
    assert_eq!(rescued, 45);
}

/// A trigger of others that lets nobody change the rows of one user.
const NOBODY_CHANGES_HER: &str = "
    create function keep() returns trigger language plpgsql as $$ begin raise exception 'not %', old.openid; end $$;
    create trigger keep before update on pending_notifications for each row when (old.openid = 'user-3') execute function keep()";

#[tokio::test]
async fn a_row_that_nobody_may_change_costs_a_rescue_only_itself() {
    let queue = Queue::new().await;
    queue.enqueue_many(APP, 5).await;
    let lease = queue.lease_and_start("gone").await;
    queue.expire_leases().await;
    sqlx::raw_sql(NOBODY_CHANGES_HER)
        .execute(queue.pool())
        .await
        .unwrap();
    assert_eq!(queue.rescue().await, 4);
    assert_eq!(queue.rescue().await, 0);
    assert_eq!(
        queue.leases().await,
        1,
        "it stays in its lease, and is not sent"
    );
    run(queue.pool(), "drop trigger keep on pending_notifications").await;
    assert_eq!(queue.rescue().await, 1);
    assert_eq!(queue.leases().await, 0);
    assert_eq!(lease.ids.len(), 5);
}

/// Takes this month's partition of the history away, and leaves a table of its name.
async fn detach(queue: &Queue, parent: &str) {
    let name = text(
        queue,
        &format!("select '{parent}_' || to_char(now() at time zone 'UTC', 'YYYY_MM')"),
    )
    .await;
    run(
        queue.pool(),
        &format!("alter table {parent} detach partition {name}"),
    )
    .await;
}

#[tokio::test]
async fn a_detached_partition_whose_name_is_kept_is_made_anew_under_another() {
    let queue = Queue::new().await;
    detach(&queue, "notification_history").await;
    detach(&queue, "notification_attempts").await;
    assert_eq!(queue.number("wxnotify_make_partitions()").await, 2);
    assert_eq!(queue.number("wxnotify_make_partitions()").await, 0);
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("w").await;
    queue
        .settle(&lease, &[Outcome::dead(id, 43101, "gone")])
        .await;
    assert_eq!(queue.state(id).await, "dead");
    // And is dropped by retention as any other.
    let dropped = text(
        &queue,
        "select coalesce(wxnotify_drop_old_partition(1), 'none')",
    )
    .await;
    assert_eq!(dropped, "none");
}

#[tokio::test]
async fn a_delete_and_a_cancel_need_no_worker_that_made_this_months_partition() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all([json!({}), json!({"openid": "user-2"})])
        .await;
    detach(&queue, "notification_history").await;
    run(
        queue.pool(),
        &format!("delete from pending_notifications where id = {}", ids[0]),
    )
    .await;
    assert_eq!(queue.state(ids[0]).await, "cancelled");
    detach_again(&queue).await;
    let answer = text(&queue, &format!("select cancel_notification({})", ids[1])).await;
    assert_eq!(answer, "cancelled");
}

/// Takes away what holds this month, whatever its name.
async fn detach_again(queue: &Queue) {
    let name = text(
        queue,
        "select tableoid::regclass::text from notification_history limit 1",
    )
    .await;
    run(
        queue.pool(),
        &format!("alter table notification_history detach partition {name}"),
    )
    .await;
}

#[tokio::test]
async fn a_tidy_and_a_rescue_make_the_partition_that_is_missing() {
    let queue = Queue::new().await;
    let expired = queue.enqueue(json!({"expire_at": in_secs(-60)})).await;
    let doubtful = queue.enqueue(json!({"openid": "user-2"})).await;
    queue.lease_and_start("gone").await;
    queue.expire_leases().await;
    detach(&queue, "notification_history").await;
    detach(&queue, "notification_attempts").await;
    assert_eq!(queue.rescue().await, 1);
    let made = text(
        &queue,
        "select partition::text from wxnotify_partitions('notification_history') where now() >= from_at and now() < to_at",
    )
    .await;
    run(
        queue.pool(),
        &format!("alter table notification_history detach partition {made}"),
    )
    .await;
    queue.tidy(APP).await;
    assert_eq!(queue.state(expired).await, "expired");
    assert_eq!(queue.state(doubtful).await, "pending: doubt");
}

/// Every word that the database's code uses as a name, but for what cannot be mistaken for a column of a table.
fn words_of_the_schema() -> BTreeSet<String> {
    fn read(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "sql") {
                *text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut text = String::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/schema"),
        &mut text,
    );
    let code = text.lines().map(|line| line.split("--").next().unwrap());
    let code = code
        .filter(|line| !line.starts_with("comment on"))
        .collect::<Vec<_>>()
        .join("\n");
    code.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| word.len() > 1 && word.starts_with(|c: char| c.is_ascii_lowercase()))
        // Variables and arguments are nobody's names for a column.
        .filter(|word| {
            !word.starts_with("v_") && !word.starts_with("p_") && !word.starts_with("wxnotify_")
        })
        .filter(|word| !["tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"].contains(word))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn columns_of_others_stop_nothing_whatever_their_names() {
    let words: Vec<String> = words_of_the_schema().into_iter().collect();
    // A table has at most 1,600 columns.
    for words in words.chunks(1000) {
        try_beside_columns(words).await;
    }
}

/// What everybody does with rows, in a table that has columns of such names beside ours.
async fn try_beside_columns(names: &[String]) {
    let queue = Queue::new().await;
    for word in names {
        let add =
            format!("alter table pending_notifications add column if not exists \"{word}\" text");
        run(queue.pool(), &add).await;
    }
    let ids = queue
        .enqueue_all(
            (0..8).map(|n| json!({"openid": format!("user-{n}"), "dedup_key": format!("key-{n}")})),
        )
        .await;
    let loser = queue
        .enqueue(json!({"openid": "user-9", "dedup_key": "key-0"}))
        .await;
    let lease = queue.lease_and_start("w").await;
    let outcomes = [
        Outcome::sent(ids[0]),
        Outcome::retry(ids[1]),
        Outcome::doubt(ids[2]),
        Outcome::dead(ids[3], 43101, "gone"),
        Outcome::of(ids[4], "release"),
        Outcome {
            waiting_for: Some("user"),
            ..Outcome::of(ids[5], "park")
        },
        Outcome::of(ids[6], "expired"),
        Outcome::doubt(ids[7]),
    ];
    queue.settle(&lease, &outcomes).await;
    queue.event("user-2", 17, 1).await;
    assert_eq!(queue.weigh().await, 1);
    queue.make_due(loser).await;
    queue.lease("w").await;
    assert_eq!(queue.state(loser).await, "duplicate");
    queue.expire_leases().await;
    queue.rescue().await;
    queue.tidy(APP).await;
    insert(queue.pool(), json!({"openid": null, "login_code": "code"}))
        .await
        .unwrap();
    for statement in [
        format!("select wxnotify_claim_logins('{{{APP}}}', 10, 30)"),
        format!("select wxnotify_settle_logins('{{{loser}}}', '{{1}}', '{{openid}}', '{{f}}', '{{f}}', '{{1}}', '{{null}}', '{{null}}', '{{null}}', '{{null}}', 'w')"),
        format!("select reschedule_notification({}, now() + interval '1 day')", ids[1]),
        format!("update pending_notifications set send_at = now() where id = {}", ids[1]),
        format!("select confirm_not_sent({})", ids[7]),
        format!("select cancel_notification({})", ids[7]),
        format!("select redrive_notification({})", ids[3]),
        format!("delete from pending_notifications where id = {}", ids[1]),
        "insert into pending_notifications (appid, openid, template_id, held) values ('wxapp-one', 'user-11', 'template-1', true)".to_owned(),
        "select arm('wxapp-one', 'user-11', 'template-1', '{\"thing1\": \"x\"}')".to_owned(),
        format!("select wxnotify_ingest_event('{APP}', '{{\"Event\": \"subscribe_msg_popup_event\", \"FromUserName\": \"user-5\", \"CreateTime\": 1700000000, \"List\": {{\"TemplateId\": \"template-1\", \"SubscribeStatusString\": \"reject\"}}}}')"),
        "select wxnotify_apply_answers(true, 600)".to_owned(),
        "select wxnotify_apply_events()".to_owned(),
        format!("select resume_app('{APP}')"),
        format!("select * from explain_notification({})", ids[4]),
        "select * from notifications".to_owned(),
        "select * from notification_backlog".to_owned(),
        "select * from notification_doubts".to_owned(),
        "select * from notification_credits".to_owned(),
        "select * from notification_credit_faults".to_owned(),
        "select * from wxnotify_fronts()".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement.clone()))
            .execute(queue.pool())
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

#[tokio::test]
async fn expired_rows_that_somebody_holds_keep_no_others_from_their_end() {
    let queue = Queue::new().await;
    let held = format!(
        "insert into pending_notifications (appid, openid, template_id, data, held, expire_at)
         select '{APP}', 'held-' || n, 'template-1', '{{}}', true, now() - interval '2 hours' from generate_series(1, 2100) n"
    );
    run(queue.pool(), &held).await;
    let rows = (0..5).map(|n| json!({"openid": format!("user-{n}"), "expire_at": in_secs(-60)}));
    let ids = queue.enqueue_all(rows).await;
    let mut holder = queue.session().await;
    let mut open = holder.begin().await.unwrap();
    run(
        &mut *open,
        "select from pending_notifications where held for update",
    )
    .await;
    assert_eq!(queue.tidy(APP).await, 5);
    for id in ids {
        assert_eq!(queue.state(id).await, "expired");
    }
    open.rollback().await.unwrap();
    assert_eq!(queue.tidy(APP).await, 1000, "a bounded batch");
}
