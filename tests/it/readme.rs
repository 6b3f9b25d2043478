//! What the documentation says is true: its SQL runs in order on a migrated database, its tables name every setting,
//! command, metric and exit code, both languages say the same, and no link leads nowhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, PgPool};
use wxnotify::config::SETTINGS;
use wxnotify::exit::Exit;
use wxnotify::telemetry::METRICS;

use crate::harness::{TestDatabase, make_schema, run, wxnotify};

const READMES: [&str; 2] = ["README.md", "README.zh-CN.md"];
const CONTRACT: [&str; 2] = ["docs/contract.md", "docs/contract.zh-CN.md"];
const COMMANDS: [&str; 2] = ["docs/commands.md", "docs/commands.zh-CN.md"];
const SETTINGS_PAGES: [&str; 2] = ["docs/settings.md", "docs/settings.zh-CN.md"];
const FAILURES: [&str; 2] = ["docs/failures.md", "docs/failures.zh-CN.md"];
const CONTRIBUTING: [&str; 2] = ["docs/contributing.md", "docs/contributing.zh-CN.md"];
const OPERATIONS: [&str; 2] = ["docs/operations.md", "docs/operations.zh-CN.md"];
const CALLBACKS: [&str; 2] = ["docs/callbacks.md", "docs/callbacks.zh-CN.md"];
const REMINDERS: [&str; 2] = ["docs/reminders.md", "docs/reminders.zh-CN.md"];
const KINDS: [&str; 2] = ["docs/kinds.md", "docs/kinds.zh-CN.md"];
const SECURITY: [&str; 2] = ["docs/security.md", "docs/security.zh-CN.md"];
const MINI_PROGRAM: [&str; 2] = ["docs/mini-program.md", "docs/mini-program.zh-CN.md"];
/// The mini-program of all examples.
const APPID: &str = "wx0123456789abcdef";

/// A file of the repository.
fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A fenced block: what stands behind its fence, and its text.
#[derive(Debug)]
struct Block {
    info: String,
    text: String,
}

fn blocks_of(path: &str) -> Vec<Block> {
    let text = text_of(path);
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block {
                info: info.to_owned(),
                text: inside.join("\n"),
            });
        }
    }
    blocks
}

/// Runs a document's SQL in order, as its reader would: what it calls refused must be, with the message that follows.
async fn run_sql_of(path: &str, pool: &PgPool) {
    let mut refusal = None;
    let mut blocks = 0;
    for Block { info, text } in blocks_of(path) {
        match info.as_str() {
            "sql" => {
                blocks += 1;
                let done = sqlx::raw_sql(AssertSqlSafe(text.clone()))
                    .fetch_all(pool)
                    .await;
                done.unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
            }
            "sql refused" => {
                blocks += 1;
                let done = sqlx::raw_sql(AssertSqlSafe(text.clone()))
                    .execute(pool)
                    .await;
                let error = done.expect_err("the document says that this is refused");
                refusal = Some(error.into_database_error().unwrap());
            }
            "text" => {
                let Some(error) = refusal.take() else {
                    continue;
                };
                assert!(
                    text.contains(&format!("ERROR:  {}\n", error.message())),
                    "{path} promises\n{text}\nbut the database says\n{error}"
                );
            }
            _ => {}
        }
    }
    assert!(blocks > 0, "{path} has no SQL");
    assert!(refusal.is_none(), "{path}: no text follows the refusal");
}

async fn database_with_the_app() -> TestDatabase {
    let database = TestDatabase::new().await;
    sqlx::query("select add_app($1), set_default_app($1)")
        .bind(APPID)
        .execute(database.pool())
        .await
        .unwrap();
    database
}

/// The status and the reference of every row, oldest first.
async fn statuses_of(pool: &PgPool) -> Vec<(String, Option<String>)> {
    sqlx::query_as("select status, business_ref from notifications order by id")
        .fetch_all(pool)
        .await
        .unwrap()
}

fn row(status: &str, business_ref: Option<&str>) -> (String, Option<String>) {
    (status.to_owned(), business_ref.map(str::to_owned))
}

#[tokio::test]
async fn every_sql_example_of_the_readmes_runs_and_does_what_is_said() {
    for readme in READMES {
        let database = database_with_the_app().await;
        run_sql_of(readme, database.pool()).await;
        assert_eq!(
            statuses_of(database.pool()).await,
            [
                row("due", Some("order-17")),
                row("cancelled", Some("class-9")),
                row("due", Some("order-18")),
            ],
            "{readme}"
        );
    }
}

#[tokio::test]
async fn every_sql_example_of_the_contract_runs_and_does_what_is_said() {
    for page in CONTRACT {
        let database = database_with_the_app().await;
        run_sql_of(page, database.pool()).await;
        assert_eq!(
            statuses_of(database.pool()).await,
            [
                row("cancelled", Some("class-9")),
                row("due", Some("order-18")),
                row("due", None),
                row("due", None),
                row("due", None),
            ],
            "{page}"
        );
    }
}

#[tokio::test]
async fn the_sql_of_the_command_pages_runs_on_the_rows_of_the_contract() {
    for (contract, commands) in CONTRACT.into_iter().zip(COMMANDS) {
        let database = database_with_the_app().await;
        run_sql_of(contract, database.pool()).await;
        run_sql_of(commands, database.pool()).await;
    }
}

#[tokio::test]
async fn the_rows_of_the_kinds_pages_are_accepted() {
    for page in KINDS {
        let database = database_with_the_app().await;
        run_sql_of(page, database.pool()).await;
        let kinds: Vec<(String, String)> =
            sqlx::query_as("select kind, status from notifications order by id")
                .fetch_all(database.pool())
                .await
                .unwrap();
        let kinds: Vec<&str> = kinds.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(
            kinds,
            ["one_time", "device", "service_card", "service_card"],
            "{page}"
        );
    }
}

#[tokio::test]
async fn the_patterns_of_the_reminder_pages_are_accepted() {
    let mut schedules_of = Vec::new();
    for page in REMINDERS {
        let database = database_with_the_app().await;
        run_sql_of(page, database.pool()).await;
        let schedules: Vec<(String, String, bool)> = sqlx::query_as(
            "select name, audience, cron is null from reminder_schedules order by name",
        )
        .fetch_all(database.pool())
        .await
        .unwrap();
        assert_eq!(
            schedules.len(),
            3,
            "{page}: the fourth is done and deleted: {schedules:?}"
        );
        schedules_of.push(schedules);
    }
    assert_eq!(schedules_of[0], schedules_of[1]);
}

#[test]
fn the_cron_texts_of_the_reminder_pages_are_what_the_program_reads() {
    for page in REMINDERS {
        let text = text_of(page);
        let texts: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(cron, _)| cron)
            .filter(|cron| !cron.starts_with("wxnotify"))
            .collect();
        assert_eq!(texts.len(), 8, "{page}: {texts:?}");
        for cron in texts {
            wxnotify::reminder::pattern::Pattern::parse(cron)
                .unwrap_or_else(|bad| panic!("{page}: {cron}: {bad}"));
        }
    }
}

#[tokio::test]
async fn the_mini_program_pages_turn_two_accepts_into_two_messages() {
    for page in MINI_PROGRAM {
        let database = database_with_the_app().await;
        run_sql_of(page, database.pool()).await;
        let rows: Vec<(String, String)> =
            sqlx::query_as("select template_id, status from notifications order by id")
                .fetch_all(database.pool())
                .await
                .unwrap();
        let due = |template: &str| (template.to_owned(), "due".to_owned());
        assert_eq!(rows, [due("TmplOrderPaid"), due("TmplPickup")], "{page}");
    }
}

/// A statement of the sample back end, as its program runs it.
fn example(name: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(text_of(&format!("examples/back-end/{name}")))
}

/// Places the sample's order and its credits in one transaction; gives the order's id, if the request was new.
async fn place_example_order(pool: &PgPool, request_id: &str, commits: bool) -> Option<i64> {
    let mut transaction = pool.begin().await.unwrap();
    let placed: Option<i64> = sqlx::query_scalar(example("place_order.sql"))
        .bind(request_id)
        .bind("oUser1")
        .bind("桂花拿铁两杯")
        .fetch_optional(&mut *transaction)
        .await
        .unwrap();
    if let Some(id) = placed {
        sqlx::query(example("record_accepts.sql"))
            .bind(APPID)
            .bind("oUser1")
            .bind(["TmplOrderPaid", "TmplPickup"])
            .bind(format!("order-{id}"))
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    if commits {
        transaction.commit().await.unwrap();
    } else {
        transaction.rollback().await.unwrap();
    }
    placed
}

#[tokio::test]
async fn the_sample_back_end_counts_a_tap_once_and_spends_its_credit_once() {
    let database = database_with_the_app().await;
    let pool = database.pool();
    sqlx::raw_sql(example("tables.sql"))
        .execute(pool)
        .await
        .unwrap();
    let held = "select count(*) from notifications where status = 'held' and business_ref = $1";
    let held_of = async |order: i64| -> i64 {
        let query = sqlx::query_scalar(held).bind(format!("order-{order}"));
        query.fetch_one(pool).await.unwrap()
    };

    let undone = place_example_order(pool, "tap-0", false).await.unwrap();
    assert_eq!(
        held_of(undone).await,
        0,
        "an order that was rolled back leaves no credit"
    );
    let placed = place_example_order(pool, "tap-1", true).await.unwrap();
    assert_eq!(place_example_order(pool, "tap-1", true).await, None);
    assert_eq!(held_of(placed).await, 2);
    let found: Option<i64> = sqlx::query_scalar(example("find_order.sql"))
        .bind("tap-1")
        .bind("oUser1")
        .fetch_optional(pool)
        .await
        .unwrap();
    assert_eq!(found, Some(placed));

    let tell = async || -> Option<i64> {
        sqlx::query_scalar(example("send_message.sql"))
            .bind(APPID)
            .bind("oUser1")
            .bind("TmplPickup")
            .bind(r#"{"character_string1": "SO-1", "thing2": "桂花拿铁两杯", "phrase3": "待取餐"}"#)
            .bind("pages/order/detail?id=1")
            .bind(chrono::Utc::now() + chrono::TimeDelta::days(1))
            .fetch_one(pool)
            .await
            .unwrap()
    };
    assert!(tell().await.is_some());
    assert_eq!(tell().await, None, "one credit, one message");
    assert_eq!(held_of(placed).await, 1);
}

/// The page counts what WeChat's values begin with, and the server runs the files that the test above runs.
#[test]
fn the_sample_programs_use_what_is_tested() {
    let server = text_of("examples/back-end/server.mjs");
    for entry in std::fs::read_dir(root().join("examples/back-end")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_statement = name.ends_with(".sql") && name != "tables.sql";
        assert!(
            !is_statement || server.contains(&format!("'{name}'")),
            "{name}"
        );
    }
    let page = text_of("examples/mini-program/checkout.js");
    assert!(page.contains(".startsWith('accept')"));
}

#[tokio::test]
async fn the_event_of_the_callbacks_pages_is_stored() {
    for page in CALLBACKS {
        let database = database_with_the_app().await;
        run_sql_of(page, database.pool()).await;
        let msgid: i64 = sqlx::query_scalar("select msgid from wechat_events")
            .fetch_one(database.pool())
            .await
            .unwrap();
        assert_eq!(msgid, 2_875_012_345_678_901_234);
    }
}

#[tokio::test]
async fn the_roles_of_the_operations_page_can_do_their_work_and_no_more() {
    for page in OPERATIONS {
        let database = database_with_the_app().await;
        // Roles belong to the whole server: in a transaction they are gone again.
        let mut connection = database.connect().await;
        run(&mut connection, "begin").await;
        for Block { info, text } in blocks_of(page) {
            if info == "sql" {
                run(&mut connection, &text).await;
            }
        }
        run(
            &mut connection,
            "set local role shop;
             insert into pending_notifications (openid, template_id, held) values ('o', 't', true);
             select arm('wx0123456789abcdef', 'o', 't', '{\"thing1\": \"x\"}', now() + interval '1 hour');
             update pending_notifications set send_at = now() + interval '2 hours';
             insert into pending_notifications (appid, openid, template_id, data) values ('wxstranger', 'o', 't', '{\"thing1\": \"x\"}');
             delete from pending_notifications where openid = 'o' and appid <> 'wxstranger'",
        )
        .await;
        run(
            &mut connection,
            "set local role support;
             select * from notifications;
             select explain_notification(id) from notifications;
             select cancel_notification(id) from notifications;
             select * from notification_backlog, notification_failures, notification_dead_letters, notification_doubts,
                 notification_credits, notification_workers_live, notification_pauses, wechat_tokens;
             set local role dashboard;
             select id, status from notifications;
             select * from notification_backlog;
             set local role worker;
             select wxnotify_rescue(1, 1)",
        )
        .await;
        for (role, forbidden) in [
            ("shop", "update pending_notifications set attempts = 3"),
            ("shop", "select * from wechat_access_tokens"),
            ("shop", "delete from notification_history"),
            ("shop", "select wxnotify_rescue(1, 1)"),
            ("shop", "select confirm_sent(1)"),
            ("support", "select * from wechat_access_tokens"),
            ("support", "delete from pending_notifications"),
            ("dashboard", "select openid from notifications"),
            ("dashboard", "select cancel_notification(1)"),
            ("dashboard", "select resume_app('wx0123456789abcdef')"),
            ("worker", "truncate notification_history"),
        ] {
            run(
                &mut connection,
                &format!("savepoint before; set local role {role}"),
            )
            .await;
            let error = sqlx::raw_sql(AssertSqlSafe(forbidden))
                .execute(&mut connection)
                .await
                .expect_err(forbidden);
            let code = error.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {forbidden}");
            run(&mut connection, "rollback to savepoint before").await;
        }
        run(&mut connection, "rollback").await;
    }
}

/// A promise without its test is a wish: each name of six words or more is that of a test.
#[test]
fn the_security_pages_name_the_same_tests_and_each_exists() {
    let mut sources = String::new();
    let mut folders = vec![root().join("src"), root().join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let [english, chinese] = SECURITY.map(|page| {
        let text = text_of(page);
        text.split('`')
            .skip(1)
            .step_by(2)
            .filter(|quoted| {
                quoted.matches('_').count() >= 5
                    && quoted.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            })
            .map(str::to_owned)
            .collect::<BTreeSet<String>>()
    });
    assert_eq!(english, chinese);
    assert!(english.len() > 40, "{english:#?}");
    let unknown: Vec<_> = english
        .iter()
        .filter(|name| !sources.contains(&format!("fn {name}()")))
        .collect();
    assert!(unknown.is_empty(), "no such tests: {unknown:#?}");
}

/// The commands for producers that do not trust each other, as they stand.
#[tokio::test]
async fn the_commands_of_the_security_pages_confine_a_login_to_its_mini_programs() {
    for page in SECURITY {
        let database = database_with_the_app().await;
        // Roles belong to the whole server: in a transaction they are gone again.
        let mut connection = database.connect().await;
        let name: String = sqlx::query_scalar("select current_database()::text")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        run(&mut connection, "begin").await;
        let mut ran = 0;
        for Block { info, text } in blocks_of(page) {
            if info == "sql" {
                run(&mut connection, &text.replace("shop_db", &name)).await;
                ran += 1;
            }
        }
        assert_eq!(ran, 6, "{page}");
        let insert = |appid: &str| {
            format!(
                "insert into pending_notifications (appid, openid, template_id, data) values ('{appid}', 'o', 't', '{{\"thing1\": \"x\"}}')"
            )
        };
        run(&mut connection, "set local session authorization shop").await;
        run(&mut connection, &insert(APPID)).await;
        let error = sqlx::raw_sql(AssertSqlSafe(insert("wx1111111111111111")))
            .execute(&mut connection)
            .await
            .expect_err("it is the school's");
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("42501"), "{page}: {error}");
        run(&mut connection, "rollback").await;
    }
}

/// Managed Postgres gives nobody a superuser.
#[tokio::test]
async fn an_ordinary_owner_of_the_database_can_migrate_send_and_operate() {
    let database = TestDatabase::empty().await;
    let mut connection = database.connect().await;
    let role = format!("wxnotify_owner_{}", std::process::id());
    let become_owner = format!(
        "create role {role};
         do $$ begin execute format('alter database %I owner to {role}', current_database()); end $$;
         grant create on schema public to {role};
         set role {role}"
    );
    run(&mut connection, &become_owner).await;
    make_schema(&mut connection).await;
    run(
        &mut connection,
        "select add_app('wx0123456789abcdef');
         insert into pending_notifications (appid, openid, template_id, data)
         values ('wx0123456789abcdef', 'one', 't', '{\"thing1\": \"x\"}'), ('wx0123456789abcdef', 'two', 't', '{\"thing1\": \"x\"}')",
    )
    .await;
    let leased: Vec<i64> = sqlx::query_scalar(
        "select id from wxnotify_lease('wx0123456789abcdef', 1::smallint, 'w#1', '-infinity', 0, 0, 1, 30, true)",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(leased, [1]);
    let settle = "select wxnotify_settle('wx0123456789abcdef', 1, 'w#1', true, '{1}', '{42}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
        '{}', '{}', '{}', '{}', 120, 3600), cancel_notification(2), wxnotify_rescue(120, 3600), wxnotify_make_partitions(5)";
    run(&mut connection, settle).await;
    run(
        &mut connection,
        include_str!("../../sql/upkeep/server_identity.sql"),
    )
    .await;
    let statuses: Vec<String> = sqlx::query_scalar("select status from notifications order by id")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    run(
        &mut connection,
        &format!("reset role; reassign owned by {role} to current_user; drop owned by {role}"),
    )
    .await;
    run(&mut connection, &format!("drop role {role}")).await;
    assert_eq!(statuses, ["sent", "cancelled"]);
}

#[test]
fn the_settings_pages_have_a_line_for_every_setting_with_its_default() {
    for page in SETTINGS_PAGES {
        let text = text_of(page);
        for setting in SETTINGS {
            let line = text
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", setting.name)))
                .unwrap_or_else(|| panic!("{page} lacks the setting {}", setting.name));
            if let Some(default) = setting.default {
                assert!(
                    line.starts_with(&format!("| `{}` | `{default}` |", setting.name)),
                    "{page}: the default of {} is {default}: {line}",
                    setting.name
                );
            }
        }
        for line in text.lines() {
            let name = line
                .strip_prefix("| `")
                .and_then(|rest| rest.split('`').next());
            if let Some(name) = name.filter(|name| name.starts_with("WXNOTIFY_")) {
                assert!(
                    SETTINGS.iter().any(|setting| setting.name == name),
                    "{page}: {name} is no setting"
                );
            }
        }
    }
}

#[test]
fn the_environment_sample_shows_every_setting_with_its_default() {
    let sample = text_of("deploy/wxnotify.env.sample");
    for setting in SETTINGS {
        let shown = match setting.default {
            Some(default) => format!("#{}={default}\n", setting.name),
            None => format!("{}=", setting.name),
        };
        assert!(sample.contains(&shown), "the sample lacks {shown}");
    }
}

#[test]
fn the_command_pages_name_every_command() {
    let help = wxnotify().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:\n").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap();
    // Lines of a wrapped description are indented further.
    let names: BTreeSet<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(
        names.contains("run") && names.contains("reschedule"),
        "{help}"
    );
    for page in COMMANDS {
        let text = text_of(page);
        let table: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("| `wxnotify "))
            .collect();
        for name in &names {
            let named = table.iter().any(|line| {
                line.starts_with(&format!("| `wxnotify {name}"))
                    || line.contains(&format!(" `{name}`"))
                    || line.contains(&format!("、`{name}`"))
            });
            assert!(named, "{page} lacks the command {name}");
        }
    }
}

#[test]
fn both_languages_have_the_same_blocks_headings_and_tables() {
    for [english, chinese] in [
        READMES,
        CONTRACT,
        COMMANDS,
        SETTINGS_PAGES,
        FAILURES,
        OPERATIONS,
        CALLBACKS,
        KINDS,
        MINI_PROGRAM,
        CONTRIBUTING,
    ] {
        let infos = |path| -> Vec<String> {
            blocks_of(path)
                .into_iter()
                .map(|block| block.info)
                .collect()
        };
        assert_eq!(infos(english), infos(chinese), "{english} and {chinese}");
        let count = |path, start: &str| {
            text_of(path)
                .lines()
                .filter(|line| line.starts_with(start))
                .count()
        };
        for start in ["#", "|", "- "] {
            assert_eq!(
                count(english, start),
                count(chinese, start),
                "lines that begin with {start} in {english} and {chinese}"
            );
        }
    }
}

#[test]
fn the_operations_pages_list_every_metric_and_exit_code() {
    for page in OPERATIONS {
        let text = text_of(page);
        for metric in METRICS {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let line = format!("| `{}` | {kind} |", metric.name);
            assert!(text.contains(&line), "{page} lacks {line}");
        }
        for (exit, _) in Exit::MEANINGS {
            let line = format!("\n| {} | ", exit as u8);
            assert!(text.contains(&line), "{page} lacks exit code {exit:?}");
        }
    }
}

#[test]
fn every_operators_query_is_linked_from_both_command_pages() {
    for entry in std::fs::read_dir(root().join("sql/operator")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        for page in COMMANDS {
            let link = format!("(../sql/operator/{name})");
            assert!(text_of(page).contains(&link), "{page} lacks {link}");
        }
    }
}

/// The pages in `docs/`, by their paths from the root.
fn pages_of_docs() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("docs")).unwrap();
    let mut pages: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    pages.sort();
    pages
}

/// Whoever opens it should see the whole of it: the details have pages of their own.
#[test]
fn the_readmes_are_short_and_lead_to_every_page() {
    for readme in READMES {
        let text = text_of(readme);
        assert!(text.lines().count() <= 180, "{readme}");
    }
    let links = |readme| links_of(&text_of(readme));
    let [english, chinese] = READMES.map(links);
    for page in pages_of_docs() {
        let links = if page.ends_with(".zh-CN.md") {
            &chinese
        } else {
            &english
        };
        assert!(links.contains(&page), "no README leads to {page}");
    }
}

/// A recipe that names a file which has moved leads into the void.
#[test]
fn every_file_that_the_contributing_pages_name_exists() {
    for page in CONTRIBUTING {
        let text = text_of(page);
        let quoted = text.split('`').skip(1).step_by(2);
        let is_path = |name: &&str| {
            ["src/", "sql/", "tests/", "migrations/", "deploy/"]
                .iter()
                .any(|folder| name.starts_with(folder))
        };
        let named: Vec<&str> = quoted.filter(is_path).collect();
        assert!(named.len() > 20, "{page}: {named:?}");
        for name in named {
            assert!(root().join(name).exists(), "{page}: there is no {name}");
        }
    }
}

#[test]
fn no_link_leads_nowhere() {
    let mut pages = pages_of_docs();
    pages.extend(READMES.map(str::to_owned));
    pages.extend(["CHANGELOG.md", "examples/README.md"].map(str::to_owned));
    for page in &pages {
        let folder = Path::new(page).parent().unwrap();
        for link in links_of(&text_of(page)) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            if file.starts_with("http") {
                continue;
            }
            let target = if file.is_empty() {
                PathBuf::from(page)
            } else {
                folder.join(file)
            };
            assert!(
                root().join(&target).exists(),
                "{page} links to {link}, which does not exist"
            );
            if !anchor.is_empty() {
                let headings = text_of(target.to_str().unwrap());
                let found = headings
                    .lines()
                    .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
                    .any(|heading| heading.to_lowercase().replace(' ', "-") == anchor);
                assert!(found, "{page} links to {link}, which has no such heading");
            }
        }
    }
}

/// The targets of a page's `[text](target)` links.
fn links_of(page: &str) -> Vec<String> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .collect()
}
