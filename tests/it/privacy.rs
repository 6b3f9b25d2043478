//! One user's data: all of it in one file, and none of it after an erasure, while the books still add up.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use clap::Parser;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use wxnotify::exit::Exit;
use wxnotify::operate::execute;
use wxnotify::operate::report::{Report, Style};
use wxnotify::store::Store;

use crate::harness::Line;
use crate::kernel::{APP, Outcome, Queue};
use crate::security::Login;

const OPENID: &str = "oSecretUser0000000000000001";
const NOTE: [&str; 2] = ["--note", "asked for by letter"];

async fn try_as(store: Store, words: &[&str]) -> anyhow::Result<Report> {
    let line = Line::try_parse_from(std::iter::once("wxnotify").chain(words.iter().copied()))?;
    execute(line.command, &store).await
}

async fn report(queue: &Queue, words: &[&str]) -> Report {
    try_as(Store::new(queue.pool().clone()), words)
        .await
        .unwrap_or_else(|error| panic!("wxnotify {words:?}: {error:#}"))
}

async fn erase(queue: &Queue) -> Report {
    report(
        queue,
        &[&["person", "erase", APP, OPENID][..], &NOTE].concat(),
    )
    .await
}

async fn text(queue: &Queue, expression: &str) -> Option<String> {
    let statement = AssertSqlSafe(format!("select ({expression})::text"));
    sqlx::query_scalar(statement)
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

/// A user of whom something is kept everywhere, beside another one.
async fn queue_with_a_user() -> Queue {
    let queue = Queue::new().await;
    for openid in [OPENID, "oOther000000000000000000001"] {
        for (outcome, order) in [("sent", "1"), ("dead", "2"), ("retry", "3")] {
            let row = json!({"openid": openid, "business_ref": format!("order {order}/{openid}"), "dedup_key": format!("key {order}/{openid}"), "page": "pages/secret", "data": {"thing1": "the secret text"}});
            let id = queue.enqueue(row).await;
            let lease = queue.lease_and_start("w").await;
            let outcome = match outcome {
                "sent" => Outcome::sent(id),
                "dead" => Outcome {
                    errmsg: Some(format!("invalid openid {openid} hint")),
                    ..Outcome::dead(id, 40003, "kept")
                },
                _ => Outcome {
                    delay_secs: 600.0,
                    ..Outcome::retry(id)
                },
            };
            queue.settle(&lease, &[outcome]).await;
        }
        queue
            .enqueue(json!({"openid": openid, "held": true, "data": {}}))
            .await;
        let more = format!(
            "select wxnotify_ingest_event('{APP}', '{{\"Event\": \"subscribe_msg_popup_event\", \"FromUserName\": \"{openid}\", \"CreateTime\": 1700000000, \"List\": [{{\"TemplateId\": \"template-1\", \"SubscribeStatusString\": \"accept\"}}, {{\"TemplateId\": \"template-2\", \"SubscribeStatusString\": \"reject\"}}]}}');
             select wxnotify_apply_answers(true, 600);
             insert into reminder_schedules (appid, name, cron, openid, template_id, data) values ('{APP}', 'habit/{openid}', '0 9 * * *', '{openid}', 'template-1', '{{\"thing1\": \"x\"}}');
             insert into reminder_schedules (appid, name, cron, audience, template_id, data) values ('{APP}', 'many', '0 9 * * *', 'list', 'template-1', '{{\"thing1\": \"x\"}}') on conflict do nothing;
             insert into reminder_audience (schedule_id, openid) select id, '{openid}' from reminder_schedules where name = 'many'"
        );
        sqlx::raw_sql(AssertSqlSafe(more))
            .execute(queue.pool())
            .await
            .unwrap();
    }
    queue
}

/// The tables, partitions apart.
async fn tables(queue: &Queue) -> Vec<String> {
    let statement = "select c.relname::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1";
    sqlx::query_scalar(statement)
        .fetch_all(queue.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn the_export_has_every_table_that_knows_the_user() {
    let queue = queue_with_a_user().await;
    let file = report(&queue, &["person", "export", APP, OPENID]).await;
    let lines: Vec<Value> = file
        .to_text(Style::PLAIN)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: BTreeSet<&str> = lines
        .iter()
        .map(|line| line["what"].as_str().unwrap())
        .collect();
    let named: Vec<String> = sqlx::query_scalar(
        "select distinct c.table_name::text from information_schema.columns c join pg_class k on k.relname = c.table_name and k.relnamespace = 'public'::regnamespace
         where c.table_schema = 'public' and c.column_name like '%openid%' and k.relkind in ('r', 'p') and not k.relispartition",
    )
    .fetch_all(queue.pool())
    .await
    .unwrap();
    for table in named {
        assert!(
            told.contains(table.as_str()),
            "{table} names users and is not exported"
        );
    }
    for table in tables(&queue).await {
        let knows = text(
            &queue,
            &format!("select count(*) > 0 from {table} t where t::text like '%{OPENID}%'"),
        )
        .await;
        assert_eq!(
            knows.as_deref() == Some("true"),
            told.contains(table.as_str()),
            "{table}"
        );
    }
    let all = file.to_text(Style::PLAIN);
    assert!(all.contains("the secret text") && !all.contains("oOther"));
    let recorded = text(
        &queue,
        "select count(*) from operator_actions where action = 'export_person' and rows_changed > 8",
    )
    .await;
    assert_eq!(recorded.as_deref(), Some("1"));
}

#[tokio::test]
async fn after_an_erasure_no_table_knows_the_user_and_the_books_still_add_up() {
    let queue = queue_with_a_user().await;
    let books = "select jsonb_agg(to_jsonb(b) order by b.template_id, b.accepted, b.sent) from (
        select template_id, accepted, balance, unclaimed, in_doubt, sent, unresolved, dead_gone, dead_kept from notification_credits
        where held = 0 and pending = 0) b";
    let of_history = "select jsonb_agg(s order by s) from (select status || count(*) as s from notification_history where settled_by <> 'operator' group by status) s";
    let before = text(&queue, of_history).await;
    let tried = report(&queue, &["person", "erase", APP, OPENID, "--dry-run"]).await;
    assert!(tried.to_text(Style::PLAIN).contains("notification_history"));

    let erased = erase(&queue).await;
    assert_eq!(
        erased.exit(),
        Exit::Done,
        "{}",
        erased.to_text(Style::PLAIN)
    );
    for table in tables(&queue).await {
        let knows = text(
            &queue,
            &format!("select count(*) from {table} t where t::text like '%{OPENID}%'"),
        )
        .await;
        assert_eq!(knows.as_deref(), Some("0"), "{table}");
    }
    assert_eq!(text(&queue, of_history).await, before);
    let kept = "select count(*) filter (where openid like 'erased-%') || ' ' || count(*) filter (where openid like 'oOther%' and data <> '{}') from notification_history";
    assert_eq!(
        text(&queue, kept).await.as_deref(),
        Some("5 2"),
        "two had ended; a retry and the credits of a row and an accept were cancelled"
    );
    let faults = "select count(*) from notification_credit_faults";
    assert_eq!(text(&queue, faults).await.as_deref(), Some("0"));
    let credits = text(&queue, books).await.unwrap();
    assert!(credits.contains("template-1"), "{credits}");
    let secrets = "select count(*) from notification_history where openid like 'erased-%' and (data <> '{}' or page is not null or extra is not null)";
    assert_eq!(text(&queue, secrets).await.as_deref(), Some("0"));
    let again = erase(&queue).await;
    assert_eq!(again.exit(), Exit::Done, "a second time changes nothing");
}

#[tokio::test]
async fn what_is_in_flight_is_left_and_erased_by_the_next_run() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"openid": OPENID})).await;
    let lease = queue.lease_and_start("w").await;
    let erased = erase(&queue).await;
    assert_eq!(erased.exit(), Exit::InPart);
    let words = erased.to_text(Style::PLAIN);
    assert!(
        words.contains("left in flight or in doubt")
            && words.contains("run the same command again"),
        "{words}"
    );
    queue.settle(&lease, &[Outcome::sent(id)]).await;
    assert_eq!(erase(&queue).await.exit(), Exit::Done);
    let kept = text(
        &queue,
        &format!("select openid from notification_history where id = {id}"),
    )
    .await;
    assert!(kept.unwrap().starts_with("erased-"));
}

#[tokio::test]
async fn an_erased_message_is_found_by_its_pseudonym_alone_and_never_sent_again() {
    let queue = Queue::new().await;
    let id = queue
        .enqueue(json!({"openid": OPENID, "business_ref": "order 7"}))
        .await;
    let lease = queue.lease_and_start("w").await;
    queue
        .settle(&lease, &[Outcome::dead(id, 47003, "kept")])
        .await;
    erase(&queue).await;
    let by_name = report(&queue, &["find", OPENID]).await;
    assert_eq!(by_name.document()["rows"], json!([]));
    let pseudonym = text(
        &queue,
        &format!("select openid from notification_history where id = {id}"),
    )
    .await
    .unwrap();
    let by_pseudonym = report(&queue, &["find", &pseudonym]).await;
    assert_eq!(by_pseudonym.document()["rows"][0]["id"], id);
    let redriven = report(&queue, &["redrive", "--id", &id.to_string()]).await;
    assert!(
        redriven
            .to_text(Style::PLAIN)
            .contains("its receiver was erased")
    );
    let told = report(&queue, &["explain", &id.to_string()]).await;
    assert!(told.to_text(Style::PLAIN).contains("47003"));
}

#[tokio::test]
async fn who_may_not_and_who_gives_no_reason_erases_nobody() {
    let queue = queue_with_a_user().await;
    let viewer = Login::of("wxnotify_viewer", queue.database()).await;
    for words in [
        &["person", "export", APP, OPENID][..],
        &["person", "erase", APP, OPENID, "--dry-run"],
        &["person", "erase", APP, OPENID, "--note", "why"],
    ] {
        let refused = try_as(Store::new(viewer.pool.clone()), words).await;
        let error = refused.expect_err("a viewer may not").to_string();
        assert!(!error.contains(OPENID), "{error}");
    }
    for (words, said) in [
        (&["person", "erase", APP, OPENID][..], "--note"),
        (
            &["person", "erase", APP, OPENID, "--note", " "],
            "needs a reason",
        ),
        (
            &["person", "erase", "nobody", OPENID, "--note", "why"],
            "not registered",
        ),
        (&["person", "export", "nobody", OPENID], "not registered"),
    ] {
        let refused = try_as(Store::new(queue.pool().clone()), words).await;
        let error = refused.expect_err(said).to_string();
        assert!(error.contains(said), "{error}");
    }
    let known = text(
        &queue,
        &format!("select count(*) from notification_history where openid = '{OPENID}'"),
    )
    .await;
    assert_eq!(known.as_deref(), Some("2"));
    let operator = Login::of("wxnotify_operator", queue.database()).await;
    assert_eq!(
        operator.refused("select key from privacy_key").await,
        "42501"
    );
    assert_eq!(
        operator
            .refused("select wxnotify_pseudonym('a', 'b')")
            .await,
        "42501"
    );
}

#[tokio::test]
async fn the_exports_file_is_its_readers_alone_and_replaces_nothing_unasked() {
    let queue = queue_with_a_user().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("person.ndjson");
    let name = path.to_str().unwrap();
    let words = ["person", "export", APP, OPENID, "--output", name];
    let done = report(&queue, &words).await;
    assert!(!done.to_text(Style::PLAIN).contains(OPENID));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let refused = try_as(Store::new(queue.pool().clone()), &words).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("cannot be written")
    );
    report(&queue, &[&words[..], &["--force"]].concat()).await;
    let nobody = report(&queue, &["person", "export", APP, "oNobody"]).await;
    assert_eq!(nobody.exit(), Exit::InPart);
}

#[tokio::test]
async fn texts_and_receivers_are_forgotten_after_their_days_and_not_before() {
    let queue = Queue::new().await;
    let mut ids = Vec::new();
    for (openid, days) in [("oOld", 40), ("oMiddle", 20), ("oNew", 1)] {
        let id = queue
            .enqueue(json!({"openid": openid, "data": {"thing1": "secret"}}))
            .await;
        let lease = queue.lease_and_start("w").await;
        queue.settle(&lease, &[Outcome::sent(id)]).await;
        sqlx::raw_sql(AssertSqlSafe(format!(
            "do $$ begin execute format('create table if not exists old_%s partition of notification_history for values from (%L) to (%L)',
                 to_char(now() - interval '{days} days', 'YYYY_MM'), date_trunc('month', now() - interval '{days} days'), date_trunc('month', now() - interval '{days} days') + interval '1 month');
             exception when others then null; end $$;
             update notification_history set finished_at = finished_at - interval '{days} days' where id = {id}"
        )))
        .execute(queue.pool())
        .await
        .unwrap();
        ids.push(id);
    }
    let forget = async |book: &str, days: i32| {
        let done = format!("select wxnotify_forget_old('{book}', {days}, 1)");
        while text(&queue, &done).await.as_deref() == Some("false") {}
    };
    let told = "select string_agg(left(openid, 7) || ' ' || (data <> '{}'), ', ' order by id) from notification_history";
    forget("data", 30).await;
    assert_eq!(
        text(&queue, told).await.as_deref(),
        Some("oOld false, oMiddle true, oNew true")
    );
    forget("openids", 30).await;
    assert_eq!(
        text(&queue, told).await.as_deref(),
        Some("erased- false, oMiddle true, oNew true")
    );
    forget("openids", 10).await;
    assert_eq!(
        text(&queue, told).await.as_deref(),
        Some("erased- false, erased- false, oNew true")
    );
}
