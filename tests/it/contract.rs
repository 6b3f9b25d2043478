//! What other programs rely on, held against a record of the last release: producers' columns, operators' views, functions, and
//! every statement of that release's binary. A schema that no longer serves it fails here, not in a rolling deploy.
//!
//! The record is `fixtures/contract.txt` and `fixtures/statements.json`. A release writes it anew:
//!
//!     WXNOTIFY_RECORD=1 cargo test --test it contract::
//!
//! Between releases nothing may leave it. What is new may be added; a column that is not wanted any more stays until no
//! supported release uses it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sqlx::{
    AssertSqlSafe, Column, Either, Executor, PgConnection, SqlSafeStr, Statement, TypeInfo,
};

use crate::harness::TestDatabase;

const INSTEAD: &str = "The last release's programs use this. Keep it (add beside it, fill it, deprecate it in CHANGELOG.md), or, \
    while nothing is released, record anew with WXNOTIFY_RECORD=1 and say so in CHANGELOG.md.";

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/fixtures")
        .join(name)
}

fn is_recording() -> bool {
    std::env::var_os("WXNOTIFY_RECORD").is_some()
}

/// Columns with type and default, functions with arguments and result, one a line.
const CONTRACT: &str = "
    select 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
           || case when c.relname = 'pending_notifications' then
                  case when a.attnotnull then ' not null' else '' end || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') else '' end
    from pg_class c
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.relnamespace = 'public'::regnamespace and (c.relkind = 'v' or c.relname in ('pending_notifications', 'wechat_errcodes'))
      and c.relname not in ('notifications_pending', 'notifications_final', 'notifications_in_flight', 'notification_lanes')
    union all
    select 'function ' || p.proname || '(' || pg_get_function_arguments(p.oid) || ') returns ' || pg_get_function_result(p.oid)
    from pg_proc p
    where p.pronamespace = 'public'::regnamespace and (p.proname not like 'wxnotify\\_%' or p.proname = 'wxnotify_ingest_event')
    union all
    select 'role ' || rolname from pg_roles where rolname in ('wxnotify_operator', 'wxnotify_producer', 'wxnotify_viewer', 'wxnotify_worker', 'wxnotify_console')";

#[tokio::test]
async fn nothing_that_producers_and_operators_rely_on_is_gone_or_of_another_type() {
    let database = TestDatabase::new().await;
    let contract = format!("select l from ({CONTRACT}) c (l) order by l collate \"C\"");
    let present: Vec<String> = sqlx::query_scalar(AssertSqlSafe(contract))
        .fetch_all(database.pool())
        .await
        .unwrap();
    let path = fixture("contract.txt");
    if is_recording() {
        std::fs::write(path, present.join("\n") + "\n").unwrap();
        return;
    }
    let recorded = std::fs::read_to_string(path).unwrap();
    let gone: Vec<&str> = recorded
        .lines()
        .filter(|line| !present.iter().any(|other| other == line))
        .collect();
    assert!(
        recorded.lines().count() > 100,
        "the record is of a whole schema"
    );
    assert!(gone.is_empty(), "{INSTEAD}\n{gone:#?}");
}

/// One statement of a release, and what it takes and gives.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Recorded {
    sql: String,
    takes: Vec<String>,
    gives: Vec<String>,
}

async fn prepare(connection: &mut PgConnection, sql: &str) -> sqlx::Result<Recorded> {
    let statement = connection
        .prepare(AssertSqlSafe(sql.to_owned()).into_sql_str())
        .await?;
    let takes = match statement.parameters() {
        Some(Either::Left(types)) => types.iter().map(|known| known.name().to_owned()).collect(),
        _ => Vec::new(),
    };
    let gives = statement
        .columns()
        .iter()
        .map(|column| format!("{} {}", column.name(), column.type_info().name()))
        .collect();
    Ok(Recorded {
        sql: sql.to_owned(),
        takes,
        gives,
    })
}

/// The statements of the worker and the commands: `sql/` and its subjects, without what is made in the database, what looks at foreign or
/// older ones, and what people type.
fn files_of_statements() -> Vec<PathBuf> {
    const OTHERS: [&str; 5] = ["demo", "doctor", "migrate", "operator", "schema"];
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sql");
    let list = |folder: &PathBuf| -> Vec<PathBuf> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    let folders = list(&root).into_iter().filter(|path| path.is_dir());
    let subjects = folders.filter(|path| !OTHERS.iter().any(|other| path.ends_with(other)));
    let files = subjects
        .chain([root.clone()])
        .flat_map(|folder| list(&folder));
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "sql"))
        .collect()
}

/// A worker or command of the last release beside the present schema: during a rolling deploy, and after a rollback of the
/// binary alone.
#[tokio::test]
async fn every_statement_of_the_last_release_still_prepares_with_the_same_types() {
    let database = TestDatabase::new().await;
    let mut connection = database.connect().await;
    let path = fixture("statements.json");
    if is_recording() {
        let mut statements = BTreeMap::new();
        for file in files_of_statements() {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&file).unwrap();
            let sql: Vec<&str> = text
                .lines()
                .filter(|line| !line.starts_with("--"))
                .collect();
            let prepared = prepare(&mut connection, &sql.join("\n")).await.unwrap();
            assert!(
                statements.insert(name, prepared).is_none(),
                "two statements of one name: {file:?}"
            );
        }
        let text = serde_json::to_string_pretty(&statements).unwrap();
        std::fs::write(path, text + "\n").unwrap();
        return;
    }
    let recorded: BTreeMap<String, Recorded> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(recorded.len() > 60, "the record is of a whole program");
    let mut broken = Vec::new();
    for (name, before) in &recorded {
        match prepare(&mut connection, &before.sql).await {
            Ok(now) if now == *before => {}
            Ok(now) => broken.push(format!("{name}: was {before:?}, is {now:?}")),
            Err(error) => broken.push(format!("{name}: {error}")),
        }
    }
    assert!(broken.is_empty(), "{INSTEAD}\n{broken:#?}");
}

/// The check must be able to fail: each of these breaks somebody.
#[tokio::test]
async fn a_column_that_is_dropped_or_retyped_and_a_changed_function_break_statements_of_the_last_release()
 {
    let recorded: BTreeMap<String, Recorded> = serde_json::from_str(
        &std::fs::read_to_string(fixture("statements.json")).unwrap_or_else(|_| "{}".to_owned()),
    )
    .unwrap();
    if is_recording() {
        return;
    }
    let changes = [
        "alter table wechat_errcodes rename column retries_max to retries",
        "alter table wechat_errcodes alter retries_max type integer",
        "drop function wxnotify_start(text, bigint, text, float8, timestamptz)",
        "alter function wxnotify_weigh(text, int) rename to wxnotify_consider",
    ];
    for change in changes {
        let database = TestDatabase::new().await;
        let mut connection = database.connect().await;
        sqlx::raw_sql(change)
            .execute(&mut connection)
            .await
            .unwrap();
        let mut broken = 0;
        for before in recorded.values() {
            let now = prepare(&mut connection, &before.sql).await;
            broken += usize::from(now.ok().as_ref() != Some(before));
        }
        assert!(broken > 0, "{change}");
    }
}
