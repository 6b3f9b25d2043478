//! `wxnotify doctor`: each thing that is wrong is found and named with its next step, whoever asks.

use clap::Parser;
use serde_json::{Value, json};
use sqlx::PgPool;
use wxnotify::operate::report::{Report, Style};
use wxnotify::operate::{OperateCommand, execute};
use wxnotify::store::Store;

use crate::harness::{self, TestDatabase};
use crate::kernel::{APP, Outcome, Queue, in_secs, run};
use crate::security::Login;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: OperateCommand,
}

async fn examine(pool: &PgPool) -> Report {
    let line = Line::parse_from(["wxnotify", "doctor"]);
    execute(line.command, &Store::new(pool.clone()))
        .await
        .unwrap()
}

/// What was found of one subject: verdict, finding and next step.
fn findings<'r>(report: &'r Report, check: &str) -> Vec<(&'r str, &'r str, Option<&'r str>)> {
    let all = report.document()["findings"].as_array().unwrap();
    all.iter()
        .filter(|finding| finding["check"] == check)
        .map(|finding| {
            let text = |key: &str| finding[key].as_str();
            (
                text("verdict").unwrap(),
                text("found").unwrap(),
                text("next"),
            )
        })
        .collect()
}

/// What fails, but for the test server's own setting: it does without fsync.
fn failures(document: &Value) -> Vec<&str> {
    let all = document["findings"].as_array().unwrap();
    all.iter()
        .filter(|finding| finding["verdict"] == "failure" && finding["check"] != "crash safety")
        .map(|finding| finding["check"].as_str().unwrap())
        .collect()
}

/// The one finding of a subject; it must have this verdict and name this.
fn assert_found(report: &Report, check: &str, verdict: &str, named: &str) {
    let found = findings(report, check);
    assert!(
        found.iter().any(|(is, what, next)| *is == verdict
            && what.contains(named)
            && next.is_some() == matches!(*is, "warning" | "failure")),
        "{check}: expected {verdict} of {named:?}, found {found:#?}"
    );
}

/// A worker that has been alive for an hour, with a valid token and events that arrive.
async fn make_healthy(queue: &Queue) {
    run(
        queue.pool(),
        &format!(
            "with w as (insert into notification_workers (name, version, appids, started_at) values ('w', '1.0.0', '{{{APP}}}', now() - interval '1 hour')),
                  a as (update wechat_apps set first_receipt_at = now())
             insert into wechat_access_tokens (appid, access_token, expires_at, fetched_at) values ('{APP}', 'a token', now() + interval '1 hour', now())"
        ),
    )
    .await;
}

#[tokio::test]
async fn a_healthy_installation_has_no_failure() {
    let queue = Queue::new().await;
    make_healthy(&queue).await;
    queue.enqueue(json!({})).await;
    let report = examine(queue.pool()).await;
    assert_eq!(failures(report.document()), Vec::<&str>::new());
    for check in [
        "database",
        "isolation level",
        "clock",
        "encryption",
        "schema",
        "autovacuum",
        "triggers and indexes",
        "partitions",
        "lapsed leases",
        "workers",
        "apps",
        "unregistered apps",
        "pauses",
        "foreign messages",
        "pooler",
    ] {
        assert_found(&report, check, "ok", "");
    }
}

#[tokio::test]
async fn an_empty_database_is_told_to_be_migrated_and_nothing_crashes() {
    let database = TestDatabase::empty().await;
    let report = examine(database.pool()).await;
    assert_found(&report, "schema", "failure", "there is none");
    assert_eq!(report.exit() as u8, 1);
    assert!(
        report
            .to_text(Style::PLAIN)
            .contains("next: run `wxnotify migrate`")
    );
}

#[tokio::test]
async fn a_schema_of_another_release_is_a_failure_unless_it_serves_this_one() {
    let queue = Queue::new().await;
    for (change, verdict, words) in [
        (
            "release = '99.0.0', level = level + 1",
            "ok",
            "which it still serves",
        ),
        ("serves = level", "failure", "does not serve"),
        (
            "release = '0.0.1', level = 1, serves = 1, fingerprint = 'x'",
            "failure",
            "older than this program's",
        ),
        (
            "release = 'not a release'",
            "failure",
            "older than this program's",
        ),
    ] {
        run(
            queue.pool(),
            &format!("update wxnotify_schema set {change}"),
        )
        .await;
        assert_found(&examine(queue.pool()).await, "schema", verdict, words);
    }
}

#[tokio::test]
async fn what_an_administrator_broke_is_named() {
    let queue = Queue::new().await;
    for statement in [
        "alter table pending_notifications disable trigger arrive",
        "alter table notification_leases set (autovacuum_enabled = off)",
        "update pg_index set indisvalid = false where indexrelid = 'pair'::regclass",
        "do $$ begin execute format('alter database %I set default_transaction_isolation = %L', current_database(), 'serializable'); end $$",
        "do $$ begin execute format('drop table notification_history_%s', to_char(now() at time zone 'UTC', 'YYYY_MM')); end $$",
    ] {
        run(queue.pool(), statement).await;
    }
    // The setting of the database holds for connections made after it.
    let fresh = PgPool::connect(queue.url()).await.unwrap();
    let report = examine(&fresh).await;
    assert_found(&report, "triggers and indexes", "failure", "arrive");
    assert_found(&report, "autovacuum", "failure", "notification_leases");
    assert_found(&report, "isolation level", "warning", "serializable");
    assert_found(&report, "partitions", "failure", "notification_history");
    run(
        &fresh,
        "alter table pending_notifications enable trigger arrive",
    )
    .await;
    assert_found(
        &examine(&fresh).await,
        "triggers and indexes",
        "warning",
        "pair",
    );
}

/// Rows copied without their sequence: the next one would be the second with its id.
#[tokio::test]
async fn a_sequence_behind_its_table_is_named_with_what_sets_it_right() {
    let queue = Queue::new().await;
    queue.enqueue_many(APP, 2).await;
    assert_found(&examine(queue.pool()).await, "ids", "ok", "ahead");
    run(
        queue.pool(),
        "select setval(pg_get_serial_sequence('pending_notifications', 'id'), 1)",
    )
    .await;
    let report = examine(queue.pool()).await;
    assert_found(&report, "ids", "failure", "pending_notifications.id");
    let next = findings(&report, "ids")[0].2.unwrap().to_owned();
    let mend = next.split_once("then ").unwrap().1.to_owned();
    run(queue.pool(), &mend).await;
    assert_found(&examine(queue.pool()).await, "ids", "ok", "ahead");
}

/// What no statement would tell before it fails.
#[tokio::test]
async fn a_database_that_takes_no_writes_and_limits_of_connections_are_named() {
    let queue = Queue::new().await;
    for statement in [
        "do $$ begin execute format('alter database %I connection limit 4', current_database()); end $$",
        "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$",
    ] {
        run(queue.pool(), statement).await;
    }
    let (code, document) = program(queue.url(), &[], &[]).await;
    assert_eq!(code, Some(1));
    let writes = named(&document, "writes");
    assert_eq!(writes[0]["verdict"], "failure", "{document:#}");
    let limits = named(&document, "connections of the database");
    assert_eq!(limits[0]["verdict"], "warning", "{document:#}");
    assert_eq!(named(&document, "encoding")[0]["verdict"], "ok");
}

#[tokio::test]
async fn an_encoding_that_holds_no_chinese_is_named() {
    let queue = Queue::new().await;
    let name = format!("latin_{}", std::process::id());
    run(
        queue.pool(),
        &format!("create database {name} encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'"),
    )
    .await;
    let mut url = url::Url::parse(queue.url()).unwrap();
    url.set_path(&name);
    let (code, document) = program(url.as_str(), &[], &[]).await;
    run(queue.pool(), &format!("drop database {name} with (force)")).await;
    assert_eq!(code, Some(1));
    assert_eq!(named(&document, "encoding")[0]["verdict"], "failure");
}

#[tokio::test]
async fn too_few_file_descriptors_are_named() {
    let queue = Queue::new().await;
    make_healthy(&queue).await;
    let mut command = std::process::Command::new("sh");
    let program = harness::wxnotify();
    command
        .args(["-c", "ulimit -n 120; exec \"$0\" doctor --json"])
        .arg(program.get_program())
        .env("DATABASE_URL", queue.url());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = named(&document, "file descriptors");
    assert_eq!(found[0]["verdict"], "failure", "{document:#}");
    assert!(found[0]["found"].as_str().unwrap().contains("120"));
}

#[tokio::test]
async fn a_queue_that_nobody_works_on_is_named_with_what_waits() {
    let queue = Queue::new().await;
    assert_found(
        &examine(queue.pool()).await,
        "workers",
        "warning",
        "nothing waits",
    );
    let id = queue.enqueue(json!({})).await;
    queue.lease_and_start("gone/1").await;
    queue
        .force(
            "update notification_leases set expires_at = clock_timestamp() - interval '5 minutes'",
        )
        .await;
    queue
        .enqueue(json!({"openid": "another", "send_at": in_secs(60)}))
        .await;
    let report = examine(queue.pool()).await;
    assert_found(&report, "workers", "failure", "rows wait");
    assert_found(&report, "lapsed leases", "failure", "1 with 1 rows");
    assert!(!report.to_json().contains(&format!("\"{id}\"")));
}

#[tokio::test]
async fn apps_that_cannot_send_or_be_heard_are_named_one_by_one() {
    let queue = Queue::new().await;
    assert_found(
        &examine(queue.pool()).await,
        "apps",
        "warning",
        "no live worker has its secret",
    );
    make_healthy(&queue).await;
    let broken = [
        (
            "update wechat_access_tokens set expires_at = now() - interval '1 minute'",
            "failure",
            "no valid access token",
        ),
        (
            "update wechat_access_tokens set expires_at = now() + interval '1 hour', last_foreign_at = now()",
            "warning",
            "another program replaced",
        ),
        (
            "with a as (update wechat_apps set first_receipt_at = null) update wechat_access_tokens set last_foreign_at = null",
            "warning",
            "no event of WeChat",
        ),
    ];
    for (statement, verdict, named) in broken {
        run(queue.pool(), statement).await;
        assert_found(&examine(queue.pool()).await, "apps", verdict, named);
    }
    run(
        queue.pool(),
        &format!("select pause_app_by_operator('{APP}', null, 'trying')"),
    )
    .await;
    queue.enqueue(json!({"appid": "wx-unknown"})).await;
    let report = examine(queue.pool()).await;
    assert_found(&report, "pauses", "failure", APP);
    assert_found(&report, "unregistered apps", "failure", "wx-unknown");
}

#[tokio::test]
async fn messages_that_others_send_are_counted_after_an_hour() {
    let queue = Queue::new().await;
    queue.event("stranger", 4711, 0).await;
    assert_found(
        &examine(queue.pool()).await,
        "foreign messages",
        "ok",
        "none",
    );
    run(
        queue.pool(),
        "update wechat_events set received_at = now() - interval '2 hours'",
    )
    .await;
    let report = examine(queue.pool()).await;
    assert_found(
        &report,
        "foreign messages",
        "warning",
        &format!("1 of {APP}"),
    );
    assert!(
        !report.to_json().contains("stranger"),
        "an openid in the report"
    );
}

/// What a role may not see is said to be so; everything else is judged as ever.
#[tokio::test]
async fn each_role_gets_an_answer_and_is_told_what_it_cannot_see() {
    let queue = Queue::new().await;
    make_healthy(&queue).await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(&lease, &[Outcome::dead(id, 47003, "kept")])
        .await;
    for (role, may, hidden) in [
        ("wxnotify_worker", "a worker", &[][..]),
        (
            "wxnotify_operator",
            "an operator",
            &["lapsed leases", "foreign messages", "unregistered apps"],
        ),
        (
            "wxnotify_viewer",
            "a viewer",
            &[
                "lapsed leases",
                "foreign messages",
                "unregistered apps",
                "apps",
            ],
        ),
        (
            "wxnotify_producer",
            "a producer",
            &["lapsed leases", "foreign messages", "apps", "workers"],
        ),
    ] {
        let login = Login::of(role, queue.database()).await;
        let report = examine(&login.pool).await;
        assert_found(&report, "rights", "ok", may);
        for check in hidden {
            assert_found(&report, check, "not_visible", "not visible to this role");
        }
        let text = report.to_text(Style::PLAIN);
        assert!(!text.contains("doctor/"), "{role} met an error:\n{text}");
        if role == "wxnotify_worker" || role == "wxnotify_operator" {
            assert_found(&report, "apps", "ok", "");
            assert_eq!(failures(report.document()), Vec::<&str>::new(), "{role}");
        }
    }
}

#[tokio::test]
async fn a_stranger_without_any_right_is_told_so() {
    let queue = Queue::new().await;
    let login = Login::of("pg_monitor", queue.database()).await;
    let report = examine(&login.pool).await;
    assert_eq!(report.exit() as u8, 1);
}

async fn program(
    url: &str,
    environment: &[(&str, &str)],
    arguments: &[&str],
) -> (Option<i32>, Value) {
    let mut command = harness::wxnotify();
    command
        .env("DATABASE_URL", url)
        .envs(environment.iter().copied())
        .args(["doctor", "--json"])
        .args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), document)
}

fn named<'d>(document: &'d Value, check: &str) -> Vec<&'d Value> {
    let all = document["findings"].as_array().unwrap();
    all.iter()
        .filter(|finding| finding["check"] == check)
        .collect()
}

#[tokio::test]
async fn a_database_that_is_away_is_a_finding_and_not_a_crash() {
    let (code, document) = program("postgres://nobody@127.0.0.1:1/none", &[], &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(named(&document, "database")[0]["verdict"], "failure");
}

#[tokio::test]
async fn the_program_judges_its_own_settings_too_and_reaches_wechat_only_when_asked() {
    let queue = Queue::new().await;
    make_healthy(&queue).await;
    let secret = format!("WXNOTIFY_APPSECRET_{APP}");
    let settings = [
        (secret.as_str(), "0123456789abcdef0123456789abcdef"),
        ("WXNOTIFY_POOLER", "true"),
        // Nobody listens there.
        ("WXNOTIFY_API_BASE", "http://127.0.0.1:1"),
    ];
    let (code, document) = program(queue.url(), &settings, &[]).await;
    assert_eq!(failures(&document), Vec::<&str>::new());
    assert_eq!(code, Some(i32::from(document["failures"] != 0)));
    assert_eq!(
        named(&document, "callback settings")[0]["verdict"],
        "warning"
    );
    assert_eq!(named(&document, "pooler")[0]["verdict"], "warning");
    assert!(named(&document, "WeChat").is_empty());

    let (code, document) = program(queue.url(), &settings, &["--online"]).await;
    assert_eq!(code, Some(1), "{document:#}");
    assert_eq!(named(&document, "WeChat")[0]["verdict"], "failure");
    assert!(!document.to_string().contains("0123456789abcdef"));
}

#[tokio::test]
async fn a_login_with_a_right_to_the_whole_table_is_named() {
    let queue = Queue::new().await;
    let role = format!("wxnotify_old_shop_{}", std::process::id());
    for statement in [
        format!("create role {role}"),
        format!("grant insert on pending_notifications to {role}"),
    ] {
        run(queue.pool(), &statement).await;
    }
    let report = examine(queue.pool()).await;
    for statement in [format!("drop owned by {role}"), format!("drop role {role}")] {
        run(queue.pool(), &statement).await;
    }
    assert_found(&report, "rights", "warning", &role);
}
