//! Copies of the database: logical ones while it works, and dumps that are restored.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use wxnotify::postgres::{Options, ThrowawayPostgres, find_binaries};
use wxnotify::schema;

use crate::harness::{TestDatabase, make_schema};
use crate::kernel::{self, APP, Outcome, Queue, in_secs, run};

/// A server that can be copied logically, with our schema and one mini-program.
async fn logical_server() -> (ThrowawayPostgres, PgConnection) {
    let postgres = ThrowawayPostgres::start(Options {
        extra_settings: vec![("wal_level".into(), "logical".into())],
        ..Options::default()
    })
    .await
    .unwrap();
    let mut session = PgConnection::connect(postgres.url()).await.unwrap();
    make_schema(&mut session).await;
    run(&mut session, &format!("select add_app('{APP}')")).await;
    (postgres, session)
}

async fn texts(session: &mut PgConnection, query: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
        .fetch_all(session)
        .await
        .unwrap()
}

#[tokio::test]
async fn every_table_has_a_replica_identity_and_so_has_a_partition_made_later() {
    let (_postgres, mut session) = logical_server().await;
    run(&mut session, "select wxnotify_make_partitions(7)").await;
    let partitions = texts(
        &mut session,
        "select c.relname::text from pg_class c where c.relispartition and c.relkind = 'r'",
    )
    .await;
    assert!(partitions.len() >= 18, "{partitions:?}");
    let without = texts(
        &mut session,
        "select c.relname::text from pg_class c
         where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and c.relreplident <> 'f'
           and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)",
    )
    .await;
    assert!(without.is_empty(), "{without:?}");
}

/// What workers, events and operators do to every table goes on while a slot for a copy takes it along.
#[tokio::test]
async fn a_publication_for_all_tables_refuses_nothing_and_a_copy_gets_what_was_changed() {
    let (_postgres, mut session) = logical_server().await;
    run(&mut session, "create publication everything for all tables").await;
    run(
        &mut session,
        "select pg_create_logical_replication_slot('copy', 'test_decoding')",
    )
    .await;
    let tables = texts(
        &mut session,
        "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace",
    )
    .await;
    assert!(tables.len() > 15, "{tables:?}");
    for row in ["sent", "dead"] {
        let insert = "insert into pending_notifications (appid, openid, template_id, data) values ($1, $2, 'template-1', $3)";
        sqlx::query(insert)
            .bind(APP)
            .bind(row)
            .bind(json!({"thing1": "x"}))
            .execute(&mut session)
            .await
            .unwrap();
    }
    let moved =
        format!("select cancel_notification(id) from pending_notifications where appid = '{APP}'");
    run(&mut session, &moved).await;
    run(
        &mut session,
        "insert into notification_attempts (notification_id, appid, attempt, result, finished_at) values (1, 'wx1', 1, 'retry', now())",
    )
    .await;
    // The receipt that WeChat's event brings, and what no statement of ours does but an administrator may.
    let receipts = run(
        &mut session,
        "update notification_history set receipt_at = now(), receipt_code = 0",
    )
    .await;
    assert_eq!(receipts, 2);
    for table in &tables {
        let column = &texts(
            &mut session,
            &format!("select quote_ident(attname) from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and attidentity = '' order by attnum desc limit 1"),
        )
        .await[0];
        run(&mut session, "begin").await;
        run(&mut session, "set local session_replication_role = replica").await;
        run(
            &mut session,
            &format!("update {table} set {column} = {column}"),
        )
        .await;
        run(&mut session, &format!("delete from {table}")).await;
        run(&mut session, "rollback").await;
    }
    let copied = texts(
        &mut session,
        "select data from pg_logical_slot_get_changes('copy', null, null) where data like '%notification_history%UPDATE%'",
    )
    .await;
    assert_eq!(copied.len(), 2, "{copied:?}");
    assert!(
        copied.iter().all(|change| change.contains("old-key:")),
        "{copied:?}"
    );
    run(&mut session, "select pg_drop_replication_slot('copy')").await;
}

/// The folder of `pg_dump` and `psql`. `None`: the server's package has no clients.
pub fn clients() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let bin = variable("PG_BIN");
    let given = (!bin.is_empty()).then(|| Path::new(&bin));
    let folder = find_binaries(given, &variable("PATH"), Path::new("/")).ok()?;
    let found = ["pg_dump", "pg_restore", "psql"]
        .iter()
        .all(|name| folder.join(name).exists());
    if !found {
        println!(
            "skipped: no pg_dump, pg_restore and psql in {}",
            folder.display()
        );
    }
    found.then_some(folder)
}

/// Runs a client program with `input`; gives what it wrote.
pub fn client(program: PathBuf, arguments: &[impl AsRef<OsStr>], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(&program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let written = writer.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && written.is_ok(),
        "{}: {errors}",
        program.display()
    );
    output.stdout
}

/// Rows of every status, as `status: id`, on a queue whose workers were not stopped: one batch is being sent, one is reserved.
async fn fill_with_every_status(queue: &Queue) {
    let enqueue = async |openid: &str, columns: Value| {
        let mut row = columns;
        row["openid"] = json!(openid);
        row["business_ref"] = json!(openid);
        queue.enqueue(row).await
    };
    let mut first = Vec::new();
    for (openid, columns) in [
        ("retrying", json!({})),
        ("doubtful", json!({})),
        ("kept-in-doubt", json!({"on_doubt": "hold"})),
        ("sent", json!({"dedup_key": "once"})),
        ("dead", json!({})),
        ("unresolved", json!({"on_doubt": "hold"})),
        ("presumed", json!({})),
    ] {
        first.push(enqueue(openid, columns).await);
    }
    let lease = queue.lease_and_start("worker/1").await;
    let outcomes = [
        Outcome::retry(first[0]),
        Outcome::doubt(first[1]),
        Outcome::doubt(first[2]),
        Outcome::sent(first[3]),
        Outcome::dead(first[4], 47003, "kept"),
        Outcome::doubt(first[5]),
        Outcome::sent(first[6]),
    ];
    queue.settle(&lease, &outcomes).await;
    queue
        .force("update pending_notifications set due = now() + interval '1 hour' where waiting_for in ('retry', 'doubt')")
        .await;
    let cancel = format!("select cancel_notification({})", first[5]);
    run(queue.pool(), &cancel).await;
    let presumed = format!(
        "update notification_history set status = 'presumed_sent' where id = {}",
        first[6]
    );
    run(queue.pool(), &presumed).await;
    let again = enqueue("duplicate", json!({"dedup_key": "once"})).await;
    assert!(queue.lease("worker/1").await.is_none(), "its key is taken");
    assert_eq!(queue.state(again).await, "duplicate");

    let expired = enqueue("expired", json!({"expire_at": in_secs(3600)})).await;
    queue
        .force(&format!("update pending_notifications set expire_at = now() - interval '1 s', due = now() - interval '1 s' where id = {expired}"))
        .await;
    queue.tidy(APP).await;
    let cancelled = enqueue("cancelled", json!({})).await;
    run(
        queue.pool(),
        &format!("delete from pending_notifications where id = {cancelled}"),
    )
    .await;

    enqueue("sending", json!({})).await;
    queue.lease_and_start("worker/1").await;
    enqueue("reserved", json!({})).await;
    queue.lease("worker/1").await.unwrap();
    enqueue("held", json!({"held": true, "data": {}})).await;
    enqueue("scheduled", json!({"send_at": in_secs(3600)})).await;
    enqueue("due", json!({})).await;
    enqueue("paused", json!({"template_id": "template-paused"})).await;
    let pause = format!("select pause_template_by_operator('{APP}', 'template-paused')");
    run(queue.pool(), &pause).await;
}

const STATUSES: [&str; 14] = [
    "cancelled",
    "dead",
    "due",
    "duplicate",
    "expired",
    "held",
    "in_doubt",
    "paused",
    "presumed_sent",
    "retrying",
    "scheduled",
    "sending",
    "sent",
    "unresolved",
];

/// What an operator can tell of each row.
const SEEN: &str = "select to_jsonb(n)::text from notifications n order by id";
/// What only wxnotify keeps of the rows that are not final, and the traces of each.
const KEPT: &str = "
    select to_jsonb(p)::text from (select * from pending_notifications order by id) p
    union all select to_jsonb(l)::text from (select * from notification_leases order by lease_id) l
    union all select to_jsonb(a)::text from (select * from notification_attempts order by notification_id, attempt) a
    union all select to_jsonb(k)::text from (select * from notification_keys order by appid, dedup_key) k";

async fn lines(pool: &PgPool, query: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
        .fetch_all(pool)
        .await
        .unwrap()
}

/// A worker takes over where the other database was left: what was begun is in doubt, what was reserved is due, what was held back
/// is not sent, and no id is given out twice.
async fn assert_goes_on(pool: &PgPool) {
    let status = async |business_ref: &str| {
        let query =
            format!("select status from notifications where business_ref = '{business_ref}'");
        lines(pool, &query).await.join(" and ")
    };
    let mut session = pool.begin().await.unwrap();
    run(&mut *session, "set local gin_fuzzy_search_limit = 20784").await;
    run(
        &mut *session,
        "update notification_leases set expires_at = clock_timestamp() - interval '1 s'",
    )
    .await;
    session.commit().await.unwrap();
    run(pool, "select wxnotify_rescue(10, 60)").await;
    assert_eq!(
        status("sending").await,
        "in_doubt",
        "it may have been sent over there"
    );
    assert_eq!(status("reserved").await, "due");

    let highest: i64 = sqlx::query_scalar("select max(id) from notifications")
        .fetch_one(pool)
        .await
        .unwrap();
    let known_lease: i64 = sqlx::query_scalar("select max(last_lease) from pending_notifications")
        .fetch_one(pool)
        .await
        .unwrap();
    let lease = kernel::lease(pool, APP, 1, "worker/2", 100)
        .await
        .unwrap()
        .unwrap();
    let leased = lines(
        pool,
        &format!(
            "select business_ref from notifications where id = any (array{:?}) order by 1",
            lease.ids
        ),
    )
    .await;
    assert_eq!(
        leased,
        ["due", "reserved"],
        "nothing that was sent, in doubt, held or paused"
    );
    assert!(
        lease.lease_id > known_lease,
        "rows remember lease {known_lease}"
    );
    let id = kernel::insert(pool, json!({"openid": "new"}))
        .await
        .unwrap();
    assert!(id > highest, "{id} was given out before");
}

async fn assert_doctor_finds_nothing_restored_badly(pool: &PgPool) {
    let traces = lines(
        pool,
        "select concat(without_attempts, ' ', of_unknown_leases) from wxnotify_missing_traces()",
    )
    .await;
    assert_eq!(traces, ["0 0"]);
}

#[tokio::test]
async fn a_whole_dump_brings_every_row_as_it_was_and_a_worker_goes_on_from_there() {
    let Some(folder) = clients() else { return };
    let queue = Queue::new().await;
    fill_with_every_status(&queue).await;
    let statuses = lines(
        queue.pool(),
        "select distinct status from notifications order by 1",
    )
    .await;
    assert_eq!(statuses, STATUSES);
    let (seen, kept) = (
        lines(queue.pool(), SEEN).await,
        lines(queue.pool(), KEPT).await,
    );

    let dump = client(
        folder.join("pg_dump"),
        &["--format=custom", "--dbname", queue.url()],
        b"",
    );
    let moved = TestDatabase::empty().await;
    client(
        folder.join("pg_restore"),
        &["--exit-on-error", "--dbname", moved.url()],
        &dump,
    );
    let mut session = moved.connect().await;
    let applied = schema::apply(&mut session, &schema::OF_THIS_PROGRAM)
        .await
        .unwrap();
    assert!(applied.steps.is_empty(), "{:?}", applied.steps);

    assert_eq!(lines(moved.pool(), SEEN).await, seen);
    assert_eq!(lines(moved.pool(), KEPT).await, kept);
    assert_doctor_finds_nothing_restored_badly(moved.pool()).await;
    assert_goes_on(moved.pool()).await;
    assert_eq!(
        lines(queue.pool(), KEPT).await,
        kept,
        "the original is as it was"
    );
}

/// Dumps the data alone, and restores it into a database that was migrated before.
async fn move_data(queue: &Queue, folder: &Path, option: &str) -> TestDatabase {
    let arguments = [
        "--data-only",
        option,
        "--exclude-table-data=wechat_errcodes",
        "--exclude-table-data=wxnotify_schema*",
        "--dbname",
        queue.url(),
    ];
    let dump = client(folder.join("pg_dump"), &arguments, b"");
    let moved = TestDatabase::new().await;
    restore(folder, &moved, &dump);
    moved
}

fn restore(folder: &Path, database: &TestDatabase, dump: &[u8]) {
    let arguments = [
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--output=/dev/null",
        "--dbname",
        database.url(),
    ];
    client(folder.join("psql"), &arguments, dump);
}

#[tokio::test]
async fn a_dump_of_the_data_alone_past_the_triggers_brings_every_row_as_it_was() {
    let Some(folder) = clients() else { return };
    let queue = Queue::new().await;
    fill_with_every_status(&queue).await;
    let (seen, kept) = (
        lines(queue.pool(), SEEN).await,
        lines(queue.pool(), KEPT).await,
    );
    let moved = move_data(&queue, &folder, "--disable-triggers").await;
    assert_eq!(lines(moved.pool(), SEEN).await, seen);
    assert_eq!(lines(moved.pool(), KEPT).await, kept);
    assert_doctor_finds_nothing_restored_badly(moved.pool()).await;
    assert_goes_on(moved.pool()).await;
}

/// The triggers of the queue are at work: whoever bypasses row-level security is no producer, and what it gives is kept. When a
/// row that waits for nothing is due is computed anew.
#[tokio::test]
async fn a_dump_of_the_data_alone_through_the_triggers_keeps_what_is_known_of_each_row() {
    let Some(folder) = clients() else { return };
    let queue = Queue::new().await;
    fill_with_every_status(&queue).await;
    let seen = "select (to_jsonb(n) - case when n.status in ('due', 'scheduled') then 'next_at' else '' end)::text from notifications n order by id";
    let kept = "select (to_jsonb(p) - case when p.waiting_for is null then 'due' else '' end)::text from pending_notifications p order by id";
    let before = (
        lines(queue.pool(), seen).await,
        lines(queue.pool(), kept).await,
    );
    let moved = move_data(&queue, &folder, "--no-comments").await;
    assert_eq!(lines(moved.pool(), seen).await, before.0);
    assert_eq!(lines(moved.pool(), kept).await, before.1);
    assert_doctor_finds_nothing_restored_badly(moved.pool()).await;
    assert_goes_on(moved.pool()).await;
}

/// The queue's table and none of its traces: nobody can know what was sent, and doctor says so.
#[tokio::test]
async fn a_dump_of_one_table_is_found_out() {
    let Some(folder) = clients() else { return };
    let queue = Queue::new().await;
    fill_with_every_status(&queue).await;
    let arguments = [
        "--data-only",
        "--table=pending_notifications",
        "--table=wechat_apps",
        "--dbname",
        queue.url(),
    ];
    let dump = client(folder.join("pg_dump"), &arguments, b"");
    let moved = TestDatabase::new().await;
    // Past the triggers, as a superuser may.
    let restored = [
        b"set session_replication_role = replica;\n".as_slice(),
        &dump,
    ]
    .concat();
    restore(&folder, &moved, &restored);
    let traces = lines(moved.pool(), "select concat(without_attempts > 0, ' ', of_unknown_leases > 0) from wxnotify_missing_traces()").await;
    assert_eq!(traces, ["t t"]);
}
