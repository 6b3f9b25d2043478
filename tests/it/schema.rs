//! How a database gets its schema, and what programs and databases of different releases are to each other.
//!
//! *Tomorrow* is a later release: this program's schema with another migration and other texts.

use std::collections::BTreeMap;
use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use flate2::read::GzDecoder;
use semver::Version;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::task::JoinSet;
use wxnotify::postgres::find_binaries;
use wxnotify::schema::{self, OF_THIS_PROGRAM, Schema, SchemaError, Standing, Step};

use crate::harness::{TestDatabase, eventually, in_time, run, wxnotify};
use crate::kernel::{self, Outcome, Queue, backend};

/// A schema made of this program's files as `change` leaves them.
fn changed(
    release: Version,
    serves: i32,
    change: impl FnOnce(&mut BTreeMap<String, String>, &mut BTreeMap<String, String>),
) -> Schema {
    let (migrations, texts) = schema::files();
    let (mut migrations, mut texts) = (
        migrations.into_iter().collect(),
        texts.into_iter().collect(),
    );
    change(&mut migrations, &mut texts);
    let list = |files: BTreeMap<String, String>| files.into_iter().collect::<Vec<_>>();
    Schema::parse(release, serves, &list(migrations), &list(texts)).unwrap()
}

/// A later release: one more table, a function with another text, a view with one more column, a trigger with another text.
fn tomorrow(serves: i32) -> Schema {
    let later = Version::new(OF_THIS_PROGRAM.release.major + 1, 0, 0);
    changed(later, serves, |migrations, texts| {
        let level = OF_THIS_PROGRAM.level() + 1;
        migrations.insert(
            format!("{level:04}_tomorrow.sql"),
            "create table notification_tomorrow (day date);".to_owned(),
        );
        edit(
            texts,
            "kernel/wxnotify_ring.sql",
            "begin\n",
            "begin -- tomorrow\n",
        );
        edit(
            texts,
            "status/notification_lanes.sql",
            "l.app_is_paused from",
            "l.app_is_paused, 1 as tomorrow from",
        );
        edit(
            texts,
            "kernel/trigger_refuse_truncate.sql",
            "create or",
            "-- tomorrow\ncreate or",
        );
    })
}

fn edit(texts: &mut BTreeMap<String, String>, path: &str, from: &str, to: &str) {
    let text = texts.get_mut(path).unwrap();
    assert!(text.contains(from), "{path} has no {from:?}: {text}");
    *text = text.replace(from, to);
}

async fn apply(database: &TestDatabase, schema: &Schema) -> Result<schema::Applied, SchemaError> {
    let mut connection = database.connect().await;
    let applied = schema::apply(&mut connection, schema).await;
    connection.close().await.unwrap();
    applied
}

async fn text(pool: &PgPool, query: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn execute(pool: &PgPool, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(pool)
        .await
        .unwrap();
}

/// All that the catalogue and the books say, for tests that nothing changed: object ids and row versions would.
async fn everything(pool: &PgPool) -> String {
    text(
        pool,
        "select concat_ws(E'\\n',
             (select string_agg(concat_ws(' ', c.oid, c.xmin, c.relname), ',' order by c.oid) from pg_class c where c.relnamespace = 'public'::regnamespace),
             (select string_agg(concat_ws(' ', p.oid, p.xmin, p.proname), ',' order by p.oid) from pg_proc p where p.pronamespace = 'public'::regnamespace),
             (select string_agg(concat_ws(' ', t.oid, t.xmin), ',' order by t.oid) from pg_trigger t),
             (select string_agg(concat_ws(' ', t.oid, t.xmin), ',' order by t.oid) from pg_policy t),
             (select string_agg(concat_ws(' ', r.ctid, r.ev_class), ',' order by r.oid) from pg_rewrite r where r.ev_class > 16383),
             (select string_agg(s.xmin || s::text, ',') from wxnotify_schema s),
             (select string_agg(t.xmin || t::text, ',' order by t.kind, t.name) from wxnotify_schema_texts t))",
    )
    .await
}

/// `pg_dump --schema-only` in blocks, without the months' partitions: which ones there are depends on the day.
fn dump(database: &TestDatabase) -> Option<BTreeMap<String, String>> {
    let bin = find_binaries(
        env::var_os("PG_BIN").map(PathBuf::from).as_deref(),
        &env::var_os("PATH").unwrap_or_default(),
        Path::new("/"),
    )
    .unwrap();
    let program = bin.join("pg_dump");
    if !program.exists() {
        eprintln!("not compared: {} holds no pg_dump", bin.display());
        return None;
    }
    let output = std::process::Command::new(program)
        .args(["--schema-only", "--dbname", database.url()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let is_of_a_month = |block: &str| {
        ["notification_history_2", "notification_attempts_2"]
            .iter()
            .any(|partition| block.contains(partition))
    };
    let blocks = text.split("\n--\n-- Name: ").skip(1);
    let blocks = blocks.filter(|block| !is_of_a_month(block)).map(|block| {
        let block = block.split("\n\\unrestrict").next().unwrap();
        let (name, statements) = block.split_once('\n').unwrap();
        (name.to_owned(), statements.trim().to_owned())
    });
    Some(blocks.collect())
}

fn assert_same_dumps(one: &TestDatabase, other: &TestDatabase) {
    let (Some(one), Some(other)) = (dump(one), dump(other)) else {
        return;
    };
    let names = |dump: &BTreeMap<String, String>| dump.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    for (name, statements) in &one {
        assert_eq!(statements, &other[name], "{name}");
    }
}

/// A database as the last program before the first release left it, with a row of every status.
async fn unreleased() -> TestDatabase {
    // Our roles, which the dump grants to.
    TestDatabase::new().await;
    let database = TestDatabase::empty().await;
    let mut statements = String::new();
    GzDecoder::new(&include_bytes!("fixtures/unreleased_schema.sql.gz")[..])
        .read_to_string(&mut statements)
        .unwrap();
    let mut connection = database.connect().await;
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    database
}

#[tokio::test]
async fn a_database_of_the_unreleased_schema_becomes_what_a_fresh_one_is() {
    let taken_over = unreleased().await;
    let applied = apply(&taken_over, &OF_THIS_PROGRAM).await.unwrap();
    assert_eq!(applied.steps[0], Step::TakeOver);
    assert_same_dumps(&taken_over, &TestDatabase::new().await);
    assert_eq!(
        apply(&taken_over, &OF_THIS_PROGRAM).await.unwrap().steps,
        []
    );
}

#[tokio::test]
async fn rows_of_the_unreleased_schema_are_all_there_and_go_on() {
    let database = unreleased().await;
    apply(&database, &OF_THIS_PROGRAM).await.unwrap();
    let pool = database.pool();
    let statuses: Vec<(String, String)> =
        sqlx::query_as("select business_ref, status from notifications order by business_ref")
            .fetch_all(pool)
            .await
            .unwrap();
    let differing: Vec<_> = statuses.iter().filter(|(was, is)| was != is).collect();
    assert_eq!(
        differing,
        // The one that was being sent when the dump was made has lapsed; the doubt on hold has no status of its own.
        [&("on_hold".to_owned(), "in_doubt".to_owned())],
        "{statuses:?}"
    );
    assert_eq!(statuses.len(), 15);

    // The due one, and the doubt that nobody held: its window is over.
    let lease = kernel::lease(pool, "wx0123456789abcdef", 1, "w#2", 10)
        .await
        .unwrap()
        .unwrap();
    assert!(kernel::start(pool, &lease).await);
    let outcomes: Vec<_> = lease.ids.iter().map(|id| Outcome::sent(*id)).collect();
    let left = kernel::settle(pool, &lease, true, &outcomes).await.unwrap();
    assert_eq!(left, Some(vec![]));
    execute(pool, "update notification_leases set expires_at = now() - interval '1 second'; select wxnotify_rescue(120, 86400)").await;
    let after = "select string_agg(status, ' ' order by business_ref) from notifications where business_ref in ('due', 'in_doubt', 'sending')";
    assert_eq!(text(pool, after).await, "sent sent in_doubt");
}

#[tokio::test]
async fn half_of_the_unreleased_schema_is_refused_and_left_alone() {
    let database = unreleased().await;
    execute(
        database.pool(),
        "delete from _sqlx_migrations where version = 13",
    )
    .await;
    let error = apply(&database, &OF_THIS_PROGRAM).await.unwrap_err();
    assert!(
        matches!(
            error,
            SchemaError::Unreleased {
                applied: 12,
                of: 13
            }
        ),
        "{error}"
    );
    let functions = "select count(*)::text from pg_proc where proname = 'wxnotify_data_fault'";
    assert_eq!(text(database.pool(), functions).await, "0");
}

#[tokio::test]
async fn a_second_migration_changes_nothing_and_waits_for_nobody() {
    let database = TestDatabase::new().await;
    let before = everything(database.pool()).await;
    // Whoever wanted a lock on one of these would wait for ever.
    let mut others = database.connect().await;
    let tables: String = text(
        database.pool(),
        "select string_agg(oid::regclass::text, ', ') from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v') and relname not like 'wxnotify%'",
    )
    .await;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "begin; lock table {tables} in row exclusive mode"
    )))
    .execute(&mut others)
    .await
    .unwrap();
    let applied = in_time(
        "a migration that has nothing to do",
        apply(&database, &OF_THIS_PROGRAM),
    )
    .await
    .unwrap();
    assert_eq!(applied.standing, Standing::Current);
    assert_eq!(applied.steps, []);
    assert_eq!(everything(database.pool()).await, before);
}

#[tokio::test]
async fn of_many_first_migrations_at_once_all_succeed() {
    for _ in 0..3 {
        let database = TestDatabase::empty().await;
        let mut programs = JoinSet::new();
        for _ in 0..6 {
            let mut command = tokio::process::Command::from(wxnotify());
            command
                .arg("migrate")
                .env("DATABASE_URL", database.url())
                .stdin(Stdio::null());
            programs.spawn(async move { command.output().await.unwrap() });
        }
        for output in programs.join_all().await {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        assert_eq!(apply(&database, &OF_THIS_PROGRAM).await.unwrap().steps, []);
    }
}

/// A shop's own program, which keeps sqlx's books in the same schema.
#[tokio::test]
async fn a_strangers_sqlx_program_works_before_and_after_us() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, sql: &str| std::fs::write(folder.path().join(name), sql).unwrap();
    write(
        "1_orders.sql",
        "create table orders (id bigint primary key);",
    );
    let database = TestDatabase::empty().await;
    let strangers = Migrator::new(folder.path()).await.unwrap();
    strangers.run(database.pool()).await.unwrap();
    apply(&database, &OF_THIS_PROGRAM).await.unwrap();
    write(
        "20260101000000_more.sql",
        "alter table orders add note text;",
    );
    let strangers = Migrator::new(folder.path()).await.unwrap();
    strangers.run(database.pool()).await.unwrap();
    let recorded = "select string_agg(version::text, ' ' order by version) from _sqlx_migrations";
    assert_eq!(text(database.pool(), recorded).await, "1 20260101000000");
    assert_eq!(apply(&database, &OF_THIS_PROGRAM).await.unwrap().steps, []);
}

#[tokio::test]
async fn a_strangers_rows_in_the_books_we_shared_stay_there() {
    let database = unreleased().await;
    let theirs =
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                  values (77, 'theirs', true, '\\x00', 1)";
    execute(database.pool(), theirs).await;
    apply(&database, &OF_THIS_PROGRAM).await.unwrap();
    let recorded = "select string_agg(version::text, ' ') from _sqlx_migrations";
    assert_eq!(text(database.pool(), recorded).await, "77");
}

#[tokio::test]
async fn nobody_who_reads_a_view_waits_behind_its_replacement() {
    let database = TestDatabase::new().await;
    let tomorrow = tomorrow(1);
    let mut report = database.connect().await;
    run(&mut report, "begin; select * from notification_lanes").await;
    let migration = database.connect().await;
    let (migrating, pid) = start_migration(migration, tomorrow).await;
    until_waits(&database, pid).await;
    // Were the migration to wait for the report, these would wait for both.
    for _ in 0..3 {
        let mut reader = database.connect().await;
        in_time(
            "a reader",
            run(&mut reader, "select * from notification_lanes"),
        )
        .await;
    }
    run(&mut report, "commit").await;
    let applied = in_time("the migration", migrating).await.unwrap().unwrap();
    assert!(
        applied
            .steps
            .iter()
            .any(|step| matches!(step, Step::Replace { name, .. } if name == "notification_lanes"))
    );
    run(&mut report, "select tomorrow from notification_lanes").await;
}

#[tokio::test]
async fn no_producer_waits_behind_the_replacement_of_a_trigger() {
    let queue = Queue::new().await;
    let mut producer = queue.session().await;
    run(&mut producer, "begin").await;
    let row = |openid: &str| json!({ "openid": openid });
    kernel::insert(&mut producer, row("one")).await.unwrap();
    let migration = queue.session().await;
    let (migrating, pid) = start_migration(migration, tomorrow(1)).await;
    until_waits(queue.database(), pid).await;
    for n in 0..3 {
        in_time("a producer", queue.enqueue(row(&format!("other-{n}")))).await;
    }
    assert!(in_time("a lease", queue.lease("w#1")).await.is_some());
    run(&mut producer, "commit").await;
    in_time("the migration", migrating).await.unwrap().unwrap();
}

type Migrating = tokio::task::JoinHandle<Result<schema::Applied, SchemaError>>;

async fn start_migration(mut connection: PgConnection, schema: Schema) -> (Migrating, i32) {
    let pid = backend(&mut connection).await;
    let migrating = tokio::spawn(async move {
        sqlx::query("set statement_timeout = 0")
            .execute(&mut connection)
            .await
            .unwrap();
        schema::apply(&mut connection, &schema).await
    });
    (migrating, pid)
}

/// Until a session waits for a lock.
async fn until_waits(database: &TestDatabase, pid: i32) {
    eventually("the migration waits for a lock", async || {
        let waits: bool = sqlx::query_scalar("select coalesce((select wait_event_type = 'Lock' from pg_stat_activity where pid = $1), false)")
            .bind(pid)
            .fetch_one(database.pool())
            .await
            .unwrap();
        waits.then_some(())
    })
    .await;
}

fn program(database: &TestDatabase, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = wxnotify()
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .env("WXNOTIFY_LISTEN", "")
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test]
async fn an_older_program_works_on_a_newer_schema_that_serves_it_and_leaves_it_alone() {
    let database = TestDatabase::new().await;
    apply(&database, &tomorrow(1)).await.unwrap();
    let before = everything(database.pool()).await;
    let (code, stdout, stderr) = program(&database, &["migrate"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("which it still serves: nothing was changed"),
        "{stdout}"
    );
    for arguments in [["run", "--until-empty"], ["run", "--migrate"]] {
        let arguments = if arguments[1] == "--migrate" {
            vec!["run", "--migrate", "--until-empty"]
        } else {
            arguments.to_vec()
        };
        let (code, _, stderr) = program(&database, &arguments);
        assert_eq!(code, Some(0), "{stderr}");
    }
    let (_, stdout, _) = program(&database, &["doctor", "--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let schema = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|finding| finding["check"] == "schema")
        .unwrap();
    assert_eq!(schema["verdict"], "ok", "{schema}");
    assert_eq!(everything(database.pool()).await, before);
}

#[tokio::test]
async fn an_older_program_that_is_served_no_more_ends_with_69_and_names_the_release_needed() {
    let database = TestDatabase::new().await;
    let tomorrow = tomorrow(OF_THIS_PROGRAM.level() + 1);
    apply(&database, &tomorrow).await.unwrap();
    let before = everything(database.pool()).await;
    for arguments in [
        &["migrate"][..],
        &["migrate", "--dry-run"],
        &["run"],
        &["run", "--migrate"],
    ] {
        let (code, _, stderr) = program(&database, arguments);
        assert_eq!(code, Some(69), "{arguments:?}: {stderr}");
        let next = format!("install wxnotify {} or newer", tomorrow.release);
        assert!(stderr.contains(&next), "{arguments:?}: {stderr}");
    }
    let (code, stdout, _) = program(&database, &["doctor"]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("does not serve wxnotify"), "{stdout}");
    assert_eq!(everything(database.pool()).await, before);
}

#[tokio::test]
async fn a_program_forth_and_back_and_forth_again() {
    let queue = Queue::new().await;
    for round in 0..2 {
        apply(queue.database(), &tomorrow(1)).await.unwrap();
        let id = queue
            .enqueue(json!({ "openid": format!("o-{round}") }))
            .await;
        let (code, _, stderr) = program(queue.database(), &["migrate"]);
        assert_eq!(code, Some(0), "{stderr}");
        let lease = queue.lease_and_start("w#1").await;
        queue.settle(&lease, &[Outcome::sent(id)]).await;
        assert_eq!(queue.state(id).await, "sent");
    }
    assert_eq!(
        apply(queue.database(), &tomorrow(1)).await.unwrap().steps,
        []
    );
}

#[tokio::test]
async fn another_build_of_the_same_release_is_refused_by_run_until_it_migrates() {
    let database = TestDatabase::new().await;
    let other = changed(OF_THIS_PROGRAM.release.clone(), 1, |_, texts| {
        edit(
            texts,
            "kernel/wxnotify_ring.sql",
            "begin\n",
            "begin -- another build\n",
        );
    });
    apply(&database, &other).await.unwrap();
    let (code, _, stderr) = program(&database, &["run", "--until-empty"]);
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains("run `wxnotify migrate`"), "{stderr}");
    let applied = apply(&database, &OF_THIS_PROGRAM).await.unwrap();
    let ring = Step::Replace {
        kind: schema::Kind::Function,
        name: "wxnotify_ring".to_owned(),
    };
    assert_eq!(applied.steps, [ring]);
    assert_eq!(program(&database, &["run", "--until-empty"]).0, Some(0));
}

#[tokio::test]
async fn a_migration_that_failed_half_way_lets_nobody_start_and_goes_on_from_there() {
    let database = TestDatabase::new().await;
    let broken = changed(OF_THIS_PROGRAM.release.clone(), 1, |_, texts| {
        edit(
            texts,
            "kernel/wxnotify_ring.sql",
            "begin\n",
            "begin -- broken\n",
        );
        texts.insert(
            "status/odd.sql".to_owned(),
            "create or replace view odd as select no_such_column from pending_notifications;"
                .to_owned(),
        );
    });
    let error = apply(&database, &broken).await.unwrap_err().to_string();
    assert!(
        error.starts_with("view odd: ") && error.contains("no_such_column"),
        "{error}"
    );
    let (code, _, stderr) = program(&database, &["run", "--until-empty"]);
    assert_eq!(code, Some(69), "{stderr}");
    apply(&database, &OF_THIS_PROGRAM).await.unwrap();
    assert_same_dumps(&database, &TestDatabase::new().await);
    assert_eq!(program(&database, &["run", "--until-empty"]).0, Some(0));
}

#[tokio::test]
async fn what_no_release_needs_any_more_is_dropped_unless_somebody_uses_it() {
    let database = TestDatabase::new().await;
    let with_more = changed(OF_THIS_PROGRAM.release.clone(), 1, |_, texts| {
        let function = "create or replace function wxnotify_old() returns int language sql set search_path from current as $$ select 1 $$;";
        texts.insert("kernel/wxnotify_old.sql".to_owned(), function.to_owned());
        texts.insert(
            "status/old_ones.sql".to_owned(),
            "create or replace view old_ones as select wxnotify_old() as one;".to_owned(),
        );
    });
    apply(&database, &with_more).await.unwrap();
    execute(
        database.pool(),
        "create schema reports; create view reports.mine as select one from public.old_ones",
    )
    .await;
    let before = everything(database.pool()).await;
    let error = apply(&database, &OF_THIS_PROGRAM).await.unwrap_err();
    assert!(
        matches!(&error, SchemaError::InUse { object, users } if object == "view old_ones" && users == &["view reports.mine"]),
        "{error}"
    );
    assert_eq!(everything(database.pool()).await, before);
    execute(database.pool(), "drop schema reports cascade").await;
    apply(&database, &OF_THIS_PROGRAM).await.unwrap();
    assert_same_dumps(&database, &TestDatabase::new().await);
}

#[tokio::test]
async fn grants_and_views_that_others_made_survive() {
    let database = TestDatabase::new().await;
    let role = format!("wxnotify_auditor_{}", std::process::id());
    execute(
        database.pool(),
        &format!(
            "create role {role}; grant select on notifications, notification_lanes to {role}; grant execute on function wxnotify_lanes to {role};
             create schema reports; create view reports.lanes as select appid, lane from public.notification_lanes"
        ),
    )
    .await;
    apply(&database, &tomorrow(1)).await.unwrap();
    let rights = format!(
        "select concat(has_table_privilege('{role}', 'notification_lanes', 'select'), has_table_privilege('{role}', 'notifications', 'select'),
                has_function_privilege('{role}', 'wxnotify_lanes()', 'execute'), (select count(*) from reports.lanes))"
    );
    assert_eq!(text(database.pool(), &rights).await, "ttt0");
    execute(
        database.pool(),
        &format!("drop owned by {role}; drop role {role}"),
    )
    .await;
}

#[tokio::test]
async fn rights_that_our_roles_lost_are_granted_again() {
    let database = TestDatabase::new().await;
    execute(database.pool(), "revoke all on pending_notifications from wxnotify_producer; drop policy worker on pending_notifications; drop function wxnotify_ready").await;
    let applied = apply(&database, &OF_THIS_PROGRAM).await.unwrap();
    assert!(applied.steps.contains(&Step::Grant), "{:?}", applied.steps);
    assert_eq!(applied.steps.len(), 3, "{:?}", applied.steps);
    assert_same_dumps(&database, &TestDatabase::new().await);
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let empty = TestDatabase::empty().await;
    let (code, stdout, stderr) = program(&empty, &["migrate", "--dry-run"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.starts_with("would migrate 0001 tables\n"),
        "{stdout}"
    );
    assert!(
        stdout.contains("\nwould make view notifications\n"),
        "{stdout}"
    );
    assert_eq!(
        text(
            empty.pool(),
            "select count(*)::text from pg_class where relnamespace = 'public'::regnamespace"
        )
        .await,
        "0"
    );

    let other = TestDatabase::new().await;
    let another = changed(OF_THIS_PROGRAM.release.clone(), 1, |_, texts| {
        edit(
            texts,
            "kernel/wxnotify_ring.sql",
            "begin\n",
            "begin -- another\n",
        );
    });
    apply(&other, &another).await.unwrap();
    let before = everything(other.pool()).await;
    let (_, stdout, _) = program(&other, &["migrate", "--dry-run", "--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        report["steps"],
        json!([{ "does": "replace", "kind": "function", "name": "wxnotify_ring" }])
    );
    assert_eq!(everything(other.pool()).await, before);
}

/// For those who apply SQL by other tools.
#[tokio::test]
async fn the_printed_schema_is_the_schema_books_included() {
    let output = wxnotify().args(["migrate", "--print"]).output().unwrap();
    assert!(output.status.success());
    let script = String::from_utf8(output.stdout).unwrap();
    let printed = TestDatabase::empty().await;
    for _ in 0..2 {
        let mut connection = printed.connect().await;
        run(&mut connection, &script).await;
        connection.close().await.unwrap();
        assert_same_dumps(&printed, &TestDatabase::new().await);
        assert_eq!(apply(&printed, &OF_THIS_PROGRAM).await.unwrap().steps, []);
    }
    // It brings an older one up to date, too, and refuses a newer one.
    let older = TestDatabase::empty().await;
    apply(
        &older,
        &changed(Version::new(0, 0, 1), 1, |migrations, texts| {
            migrations.retain(|name, _| name.starts_with("0001"));
            // Views and others stand on later tables; partitions are made at the end.
            texts.retain(|name, _| {
                name == "kernel/wxnotify_ring.sql" || name.starts_with("upkeep/wxnotify_")
            });
            edit(
                texts,
                "kernel/wxnotify_ring.sql",
                "begin\n",
                "begin -- older\n",
            );
        }),
    )
    .await
    .unwrap();
    let mut connection = older.connect().await;
    run(&mut connection, &script).await;
    assert_eq!(apply(&older, &OF_THIS_PROGRAM).await.unwrap().steps, []);
    let newer = TestDatabase::new().await;
    apply(&newer, &tomorrow(1)).await.unwrap();
    let mut connection = newer.connect().await;
    let error = sqlx::raw_sql(AssertSqlSafe(script))
        .execute(&mut connection)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("the schema is newer"), "{error}");
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused_in_one_sentence_and_stays_empty() {
    let server = TestDatabase::empty().await;
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_CN"] {
        let name = format!(
            "{}_{}",
            text(server.pool(), "select current_database()").await,
            encoding.to_lowercase()
        );
        execute(server.pool(), &format!("create database {name} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'")).await;
        let mut url = url::Url::parse(server.url()).unwrap();
        url.set_path(&name);
        let output = wxnotify()
            .arg("migrate")
            .env("DATABASE_URL", url.as_str())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{stderr}");
        assert_eq!(
            stderr.trim(),
            format!(
                "wxnotify: the database {name} has the encoding {encoding}, and wxnotify needs UTF8: nothing was applied. Next: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and migrate that one"
            )
        );
        let mut connection = PgConnection::connect(url.as_str()).await.unwrap();
        let objects: i64 = sqlx::query_scalar(
            "select count(*) from pg_class where relnamespace = 'public'::regnamespace",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert_eq!(objects, 0);
        connection.close().await.unwrap();
        execute(server.pool(), &format!("drop database {name}")).await;
    }
}

/// What an administrator may have set for the database or the role.
#[tokio::test]
async fn settings_of_the_database_do_not_change_the_schema() {
    let odd = TestDatabase::empty().await;
    let name = text(odd.pool(), "select current_database()").await;
    for setting in [
        "standard_conforming_strings = off",
        "default_transaction_isolation = serializable",
        "default_transaction_read_only = on",
        "statement_timeout = '20ms'",
        "lock_timeout = '1ms'",
        "check_function_bodies = on",
        "quote_all_identifiers = on",
        "plpgsql.variable_conflict = use_variable",
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'SQL, DMY'",
    ] {
        // From another database: this one may be read-only by now.
        execute(
            TestDatabase::empty().await.pool(),
            &format!("alter database {name} set {setting}"),
        )
        .await;
    }
    apply(&odd, &OF_THIS_PROGRAM).await.unwrap();
    execute(
        TestDatabase::empty().await.pool(),
        &format!("alter database {name} reset all"),
    )
    .await;
    assert_same_dumps(&odd, &TestDatabase::new().await);
}

/// A function in two forms would be two texts, and callers would meet one or the other.
#[tokio::test]
async fn every_function_of_ours_is_a_text_and_has_one_form() {
    let database = TestDatabase::new().await;
    let functions: Vec<String> = sqlx::query_scalar(
        "select proname::text from pg_proc where pronamespace = 'public'::regnamespace order by 1",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let texts: Vec<String> = OF_THIS_PROGRAM
        .texts
        .iter()
        .filter(|text| text.kind == schema::Kind::Function)
        .map(|text| text.name.clone())
        .collect();
    assert_eq!(functions, texts);
}
/// Which files of `migrations/` were released, with their SHA-256: whoever makes a release adds them, as `release hash file`.
const RELEASED: &str = include_str!("fixtures/released_migrations.txt");

/// What is wrong with the files of `migrations/` by the record of what was released, and with the record by the changelog.
fn faults_of_releases(changelog: &str, released: &str, files: &schema::Files) -> Vec<String> {
    let lines: Vec<Vec<&str>> = released
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let mut faults = Vec::new();
    for line in &lines {
        let [release, hash, file] = line[..] else {
            faults.push(format!("not `release hash file`: {line:?}"));
            continue;
        };
        let text = files.iter().find(|(path, _)| path == file);
        let now = text.map(|(_, text)| {
            let digest = Sha256::digest(text);
            digest
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        });
        if now.as_deref() != Some(hash) {
            faults.push(format!(
                "{file} is not what {release} applied: a database that applied it never sees the difference. Put it back, and write another migration"
            ));
        }
    }
    // `## [1.2.0] - 2027-03-01`; what has no date was not released.
    let dated = changelog.lines().filter_map(|line| {
        let (release, date) = line.strip_prefix("## [")?.split_once("] - ")?;
        date.starts_with(|digit: char| digit.is_ascii_digit())
            .then_some(release)
    });
    for release in dated {
        if !lines.iter().any(|line| line.first() == Some(&release)) {
            faults.push(format!(
                "CHANGELOG.md releases {release}, and tests/it/fixtures/released_migrations.txt names no file of it: add what sha256sum says of migrations/*.sql"
            ));
        }
    }
    faults
}

#[test]
fn a_released_migration_is_never_edited_and_no_release_forgets_to_record_its_own() {
    let (files, _) = schema::files();
    let changelog = include_str!("../../CHANGELOG.md");
    assert_eq!(
        faults_of_releases(changelog, RELEASED, &files),
        Vec::<String>::new()
    );

    // That look finds what it is for.
    let changelog = "## [Unreleased]\n## [0.3.0] - 2027-01-01\n## [0.2.0] - 2026-12-24\n## [0.1.0] - never released\n";
    let of_a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
    let released = format!(
        "# a comment\n0.2.0 {of_a} 0001_a.sql\n0.2.0 {of_a} 0002_b.sql\n0.2.0 {of_a} 0003_c.sql\n"
    );
    let files = [("0001_a.sql", "a"), ("0002_b.sql", "a, edited")]
        .map(|(path, text)| (path.to_owned(), text.to_owned()));
    let faults = faults_of_releases(changelog, &released, &files.to_vec());
    let begin: Vec<_> = faults.iter().map(|fault| &fault[..20]).collect();
    assert_eq!(
        begin,
        [
            "0002_b.sql is not wh",
            "0003_c.sql is not wh",
            "CHANGELOG.md release"
        ]
    );
    assert!(faults[2].contains("0.3.0"), "{faults:?}");
}
