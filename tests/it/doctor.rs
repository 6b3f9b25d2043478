//! `wxnotify doctor`: each thing that is wrong is found and named with its next step, whoever asks.

use clap::Parser;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use wxnotify::operate::execute;
use wxnotify::operate::report::{Report, Style};
use wxnotify::store::Store;

use crate::harness::{self, Line, TestDatabase};
use crate::kernel::{APP, Outcome, Queue, in_secs, run};
use crate::security::Login;

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
        "objects of others",
        "partitions",
        "publications",
        "held locks",
        "restored rows",
        "server log",
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
async fn what_others_hung_on_the_tables_is_named_with_what_to_do_instead() {
    let queue = Queue::new().await;
    for statement in [
        "create function audit() returns trigger language plpgsql as $$ begin return new; end $$",
        "create trigger audit after insert on notification_history for each row execute function audit()",
        "create rule note as on update to notification_keys do also nothing",
    ] {
        run(queue.pool(), statement).await;
    }
    let report = examine(queue.pool()).await;
    assert_found(
        &report,
        "objects of others",
        "warning",
        "trigger audit on notification_history",
    );
    assert_found(
        &report,
        "objects of others",
        "warning",
        "rule note on notification_keys",
    );
    run(
        queue.pool(),
        "create table orders (notification_id bigint references pending_notifications (id))",
    )
    .await;
    let report = examine(queue.pool()).await;
    let key = "foreign key orders_notification_id_fkey of orders to pending_notifications";
    assert_found(&report, "objects of others", "failure", key);
    assert!(report.to_text(Style::PLAIN).contains("business_ref"));
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
            &["lapsed leases", "foreign messages", "unregistered apps"],
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
        assert!(!text.contains("SQLSTATE"), "{role} met an error:\n{text}");
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

/// The published table of a partition that an administrator made, or restored, without what ours have.
#[tokio::test]
async fn a_table_that_is_published_without_a_replica_identity_is_named() {
    let queue = Queue::new().await;
    let month: String = sqlx::query_scalar("select to_char(now() at time zone 'UTC', 'YYYY_MM')")
        .fetch_one(queue.pool())
        .await
        .unwrap();
    for (publication, taken_from, taken) in [
        ("for all tables", "notification_history", true),
        (
            "for table notification_attempts with (publish_via_partition_root)",
            "notification_attempts",
            true,
        ),
        (
            "for all tables with (publish = 'insert')",
            "notification_history",
            false,
        ),
        ("for table wechat_apps", "notification_history", false),
    ] {
        let table = format!("{taken_from}_{month}");
        run(
            queue.pool(),
            &format!("alter table {table} replica identity default"),
        )
        .await;
        run(
            queue.pool(),
            &format!("create publication copy {publication}"),
        )
        .await;
        let report = examine(queue.pool()).await;
        if taken {
            assert_found(
                &report,
                "publications",
                "failure",
                &format!("{table} of copy"),
            );
        } else {
            assert_found(&report, "publications", "ok", "");
        }
        run(
            queue.pool(),
            &format!("alter table {table} replica identity full"),
        )
        .await;
        assert_found(&examine(queue.pool()).await, "publications", "ok", "");
        run(queue.pool(), "drop publication copy").await;
    }
}

async fn command(pool: &PgPool, line: &[&str]) -> Report {
    let line = Line::parse_from([&["wxnotify"], line].concat());
    execute(line.command, &Store::new(pool.clone()))
        .await
        .unwrap()
}

/// Who holds it is named with pid or name by doctor, status and explain, for two seconds or longer.
#[tokio::test]
async fn whoever_holds_what_workers_need_is_named() {
    let queue = Queue::new().await;
    make_healthy(&queue).await;
    let id = queue.enqueue(json!({})).await;
    let app_lock = format!("pg_advisory_xact_lock(20786, hashtext('{APP}'))");
    let session_lock = format!("pg_advisory_lock(20786, hashtext('{APP}'))");
    for (statements, named, concerns_the_row) in [
        (
            ["begin", &format!("select resume_app('{APP}')")],
            "the lock of a mini-program",
            true,
        ),
        (
            ["begin", &format!("select {app_lock}")],
            "the lock of a mini-program",
            true,
        ),
        // Outside a transaction, and idle since.
        (
            ["select 1", &format!("select {session_lock}")],
            "the lock of a mini-program",
            true,
        ),
        (
            ["begin", "select pg_advisory_xact_lock(20787, 0)"],
            "the lock of the partitions",
            false,
        ),
        (
            ["begin", "select pg_advisory_xact_lock(20785, 0)"],
            "the lock of the ledger",
            false,
        ),
        (
            ["begin", "lock table notification_history in share mode"],
            "notification_history",
            true,
        ),
        (
            [
                "begin",
                "lock table pending_notifications in exclusive mode",
            ],
            "pending_notifications",
            true,
        ),
    ] {
        let mut session = queue.session().await;
        for statement in statements {
            run(&mut session, statement).await;
        }
        let pid = format!("session {}", crate::kernel::backend(&mut session).await);
        let report = harness::eventually("it is named", async || {
            let report = examine(queue.pool()).await;
            let found = findings(&report, "held locks");
            (found[0].0 != "ok").then_some(report)
        })
        .await;
        let found = findings(&report, "held locks")[0];
        assert!(
            found.1.contains(&pid) && found.1.contains(named),
            "{statements:?}: {found:?}"
        );
        assert!(found.1.contains("since 2"), "{found:?}");
        assert!(
            found.2.unwrap().contains("pg_terminate_backend"),
            "{found:?}"
        );

        let status = command(queue.pool(), &["status"])
            .await
            .to_text(Style::PLAIN);
        assert!(status.contains(&pid) && status.contains(named), "{status}");
        let explained = command(queue.pool(), &["explain", &id.to_string()]).await;
        let explained = explained.to_text(Style::PLAIN);
        assert_eq!(
            explained.contains(&pid),
            concerns_the_row,
            "{statements:?}: {explained}"
        );
        sqlx::Connection::close(session).await.unwrap();
        harness::eventually("it is over", async || {
            let report = examine(queue.pool()).await;
            (findings(&report, "held locks")[0].0 == "ok").then_some(())
        })
        .await;
    }
    let explained = command(queue.pool(), &["explain", &id.to_string()]).await;
    assert!(!explained.to_text(Style::PLAIN).contains("held up"));
}

/// It has no process that could be named, and nothing ends it but its name.
#[tokio::test]
async fn a_prepared_transaction_that_holds_a_mini_programs_lock_is_named_by_its_name() {
    let queue = Queue::new().await;
    let mut session = queue.session().await;
    let gid = format!("forgotten-{}", std::process::id());
    for statement in [
        "begin",
        &format!("select pg_advisory_xact_lock(20786, hashtext('{APP}'))"),
    ] {
        run(&mut session, statement).await;
    }
    let prepare = AssertSqlSafe(format!("prepare transaction '{gid}'"));
    if let Err(error) = sqlx::query(prepare).execute(&mut session).await {
        println!("skipped: {error}");
        return;
    }
    let report = harness::eventually("it is named", async || {
        let report = examine(queue.pool()).await;
        (findings(&report, "held locks")[0].0 != "ok").then_some(report)
    })
    .await;
    assert_found(
        &report,
        "held locks",
        findings(&report, "held locks")[0].0,
        &gid,
    );
    let next = findings(&report, "held locks")[0].2.unwrap();
    let rollback = format!("rollback prepared '{gid}'");
    assert!(next.contains(&rollback), "{next}");
    run(&mut session, &rollback).await;
}

/// A forgotten BEGIN around it would stop the mini-program for as long as nobody notices.
#[tokio::test]
async fn a_transaction_that_resumed_something_may_not_be_left_idle() {
    let queue = Queue::new().await;
    let mut session = queue.session().await;
    let patience = "select current_setting('idle_in_transaction_session_timeout')";
    let template = format!("select resume_template('{APP}', 'template-1')");
    run(
        queue.pool(),
        &format!("select pause_template_by_operator('{APP}', 'template-1')"),
    )
    .await;
    for verb in [format!("select resume_app('{APP}')"), template] {
        for (own, expected) in [("0", "30s"), ("1h", "30s"), ("5s", "5s")] {
            run(
                &mut session,
                &format!("set idle_in_transaction_session_timeout = '{own}'"),
            )
            .await;
            run(&mut session, "begin").await;
            run(&mut session, &verb).await;
            let within: String = sqlx::query_scalar(patience)
                .fetch_one(&mut session)
                .await
                .unwrap();
            assert_eq!(within, expected, "{verb}");
            run(&mut session, "commit").await;
            let after: String = sqlx::query_scalar(patience)
                .fetch_one(&mut session)
                .await
                .unwrap();
            assert_eq!(after, own, "{verb}");
        }
    }
}

/// What a restore of one table without the others looks like.
#[tokio::test]
async fn rows_without_their_attempts_or_leases_are_counted() {
    let queue = Queue::new().await;
    let ids = queue
        .enqueue_all(["retrying", "doubtful", "fresh"].map(|openid| json!({"openid": openid})))
        .await;
    let lease = queue.lease_and_start("worker/1").await;
    let outcomes = [Outcome::retry(ids[0]), Outcome::doubt(ids[1])];
    queue.settle(&lease, &outcomes).await;
    queue.expire_leases().await;
    queue.rescue().await;
    assert_found(&examine(queue.pool()).await, "restored rows", "ok", "");

    run(
        queue.pool(),
        &format!(
            "delete from notification_attempts where notification_id = {}",
            ids[0]
        ),
    )
    .await;
    assert_found(
        &examine(queue.pool()).await,
        "restored rows",
        "failure",
        "1 rows with attempts",
    );
    run(queue.pool(), "delete from notification_attempts").await;
    assert_found(
        &examine(queue.pool()).await,
        "restored rows",
        "failure",
        "3 rows with attempts",
    );
    let worker = Login::of("wxnotify_worker", queue.database()).await;
    assert_found(
        &examine(&worker.pool).await,
        "restored rows",
        "failure",
        "3 rows with attempts",
    );
    // The lease it names is that of another database.
    run(
        queue.pool(),
        "select setval('notification_leases_lease_id_seq', 1, false)",
    )
    .await;
    assert_found(
        &examine(queue.pool()).await,
        "restored rows",
        "failure",
        "of leases whose numbers",
    );
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
