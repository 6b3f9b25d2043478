//! What operators read on the command line besides `status`: one key, failures, latency, who did what, batches, and files.

use clap::Parser;
use serde_json::{Value, json};
use wxnotify::exit::Exit;
use wxnotify::operate::report::{Report, Style};
use wxnotify::operate::{OperateError, execute};
use wxnotify::store::Store;

use crate::harness::Line;
use crate::kernel::{APP, Outcome, Queue};
use crate::security::Login;

async fn try_as(store: Store, words: &[&str]) -> anyhow::Result<Report> {
    let line = Line::try_parse_from(std::iter::once("wxnotify").chain(words.iter().copied()))?;
    execute(line.command, &store).await
}

async fn report(queue: &Queue, words: &[&str]) -> Report {
    try_as(Store::new(queue.pool().clone()), words)
        .await
        .unwrap_or_else(|error| panic!("wxnotify {words:?}: {error:#}"))
}

fn text(report: &Report) -> String {
    report.to_text(Style::PLAIN)
}

/// A row of this order that WeChat refused with 43101.
async fn refused_row(queue: &Queue, business_ref: &str) -> i64 {
    let row = json!({"openid": "oSecretUser0000000000000001", "business_ref": business_ref,
        "data": {"thing1": "the secret text"}});
    let id = queue.enqueue(row).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(&lease, &[Outcome::dead(id, 43101, "gone")])
        .await;
    id
}

#[tokio::test]
async fn one_box_finds_a_row_by_any_of_its_keys() {
    let queue = Queue::new().await;
    let id = refused_row(&queue, "order 1").await;
    refused_row(&queue, "order 2").await;
    let number = id.to_string();
    for key in [number.as_str(), "order 1"] {
        let found = report(&queue, &["find", key]).await;
        let rows = found.document()["rows"].as_array().unwrap().clone();
        assert_eq!(rows.len(), 1, "{key}");
        assert_eq!(rows[0]["id"], id, "{key}");
        assert_eq!(found.exit(), Exit::Done);
        assert!(text(&found).contains(&format!("wxnotify explain {id}")));
    }
    let sent = queue.enqueue(json!({"dedup_key": "key 3"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::sent(sent)]).await;
    let found = report(&queue, &["find", "key 3"]).await;
    assert_eq!(found.document()["rows"][0]["id"], sent);
    assert_eq!(found.document()["found_by"], json!(["dedup_key"]));

    let of_user = report(
        &queue,
        &["find", "oSecretUser0000000000000001", "--limit", "1"],
    )
    .await;
    assert_eq!(of_user.document()["rows"].as_array().unwrap().len(), 1);
    assert_eq!(of_user.document()["has_more"], true);
    assert!(
        !text(&of_user).contains("oSecretUser"),
        "{}",
        text(&of_user)
    );
}

#[tokio::test]
async fn an_unknown_key_finds_nothing_and_says_where_it_looked() {
    let queue = Queue::new().await;
    refused_row(&queue, "order 1").await;
    let long = "x".repeat(10_000);
    for key in ["order", "order_1", "%", "'; --", "", "\u{202e}", &long, "0"] {
        let found = report(&queue, &["find", key]).await;
        assert_eq!(found.document()["rows"], json!([]), "{key:?}");
        assert_eq!(found.exit(), Exit::InPart, "{key:?}");
        assert!(text(&found).contains("searched as id, business_ref"));
    }
}

#[tokio::test]
async fn a_viewer_finds_no_row_by_its_receiver_and_is_told_so() {
    let queue = Queue::new().await;
    let id = refused_row(&queue, "order 1").await;
    let viewer = Login::of("wxnotify_viewer", queue.database()).await;
    let store = Store::new(viewer.pool.clone());
    let found = try_as(store.clone(), &["find", "oSecretUser0000000000000001"])
        .await
        .unwrap();
    assert_eq!(found.document()["rows"], json!([]));
    assert!(text(&found).contains("may not search by openid"));
    let found = try_as(store, &["find", "order 1"]).await.unwrap();
    assert_eq!(found.document()["rows"][0]["id"], id);
}

#[tokio::test]
async fn receiver_and_texts_are_shown_for_a_reason_and_the_asking_is_recorded() {
    let queue = Queue::new().await;
    let id = refused_row(&queue, "order 1").await.to_string();
    let without = try_as(
        Store::new(queue.pool().clone()),
        &["reveal", &id, "--note", " "],
    )
    .await;
    let without = without.unwrap_err();
    assert!(
        without.downcast_ref::<OperateError>().is_some(),
        "{without:#}"
    );
    let shown = report(&queue, &["reveal", &id, "--note", "the customer asks"]).await;
    assert_eq!(shown.document()["openid"], "oSecretUser0000000000000001");
    assert!(text(&shown).contains("the secret text"));
    let nobody = report(&queue, &["reveal", "77", "--note", "why"]).await;
    assert_eq!(nobody.exit(), Exit::InPart);

    let actions = report(&queue, &["actions", "--action", "reveal"]).await;
    let actions = actions.document()["actions"].clone();
    assert_eq!(actions[1]["note"], "the customer asks", "{actions}");
}

#[tokio::test]
async fn failures_are_counted_by_cause_with_what_to_do() {
    let queue = Queue::new().await;
    let nothing = report(&queue, &["failures"]).await;
    assert!(text(&nothing).contains("No attempt failed"));
    refused_row(&queue, "order 1").await;
    refused_row(&queue, "order 2").await;
    let failures = report(&queue, &["failures", "--appid", APP]).await;
    let cause = &failures.document()["causes"][0];
    assert_eq!(
        (&cause["errcode"], &cause["dead"]),
        (&json!(43101), &json!(2))
    );
    assert!(
        text(&failures).contains("next: 43101: "),
        "{}",
        text(&failures)
    );
    let elsewhere = report(&queue, &["failures", "--appid", "wx-nobody"]).await;
    assert_eq!(elsewhere.document()["causes"], json!([]));
}

#[tokio::test]
async fn latency_is_told_once_something_was_sent() {
    let queue = Queue::new().await;
    assert!(text(&report(&queue, &["latency"]).await).contains("Nothing was sent"));
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::sent(id)]).await;
    let latency = report(&queue, &["latency"]).await;
    assert!(text(&latency).contains("due to sent"), "{}", text(&latency));
    assert_eq!(
        latency.document()["latency"]["sent"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn a_file_holds_no_receiver_no_formula_and_is_recorded() {
    let queue = Queue::new().await;
    let id = refused_row(&queue, "=cmd|' /C calc'!A0").await;
    let csv = text(&report(&queue, &["export", "--note", "for finance"]).await);
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().starts_with("\u{feff}id,appid,status"));
    let line = lines.next().unwrap();
    assert!(line.starts_with(&format!("{id},{APP},dead")), "{line}");
    assert!(line.contains("'=cmd") && !csv.contains("oSecretUser") && !csv.contains("secret text"));

    let ndjson = report(
        &queue,
        &["export", "--format", "ndjson", "--status", "dead"],
    )
    .await;
    assert!(ndjson.is_file());
    let row: Value = serde_json::from_str(text(&ndjson).lines().next().unwrap()).unwrap();
    assert_eq!((&row["id"], row.get("openid")), (&json!(id), None));
    refused_row(&queue, "order 2").await;
    let cut = report(&queue, &["export", "--limit", "1"]).await;
    assert_eq!((cut.exit(), text(&cut).lines().count()), (Exit::InPart, 2));
    let none = report(
        &queue,
        &["export", "--errcode", "47003", "--format", "ndjson"],
    )
    .await;
    assert_eq!(text(&none), "");

    let strange = try_as(
        Store::new(queue.pool().clone()),
        &["export", "--status", "deads"],
    )
    .await;
    let strange = strange.unwrap_err().to_string();
    assert!(strange.contains("\"deads\" is no status"), "{strange}");
    let actions = report(&queue, &["actions", "--action", "export"]).await;
    assert_eq!(actions.document()["actions"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_batch_is_shown_and_stopped_from_the_command_line() {
    let queue = Queue::new().await;
    for number in 0..3 {
        refused_row(&queue, &format!("order {number}")).await;
    }
    assert!(text(&report(&queue, &["batch", "list"]).await).contains("no batch"));
    let batch: i64 = sqlx::query_scalar(
        "select preview_batch('redrive', jsonb_build_object('appid', $1::text))",
    )
    .bind(APP)
    .fetch_one(queue.pool())
    .await
    .unwrap();
    sqlx::query("select start_batch($1, 'the template is back', 60)")
        .bind(batch)
        .execute(queue.pool())
        .await
        .unwrap();
    let number = batch.to_string();
    let list = report(&queue, &["batch", "list"]).await;
    assert_eq!(list.document()["batches"][0]["state"], "running");
    let shown = text(&report(&queue, &["batch", "show", &number]).await);
    assert!(
        shown.contains("0 of 3 rows done") && shown.contains("the template is back"),
        "{shown}"
    );
    let stopped = report(&queue, &["batch", "stop", &number]).await;
    assert_eq!(stopped.document()["stopped"], true);
    let preview: i64 =
        sqlx::query_scalar("select preview_batch('cancel', jsonb_build_object('appid', $1::text))")
            .bind(APP)
            .fetch_one(queue.pool())
            .await
            .unwrap();
    let again = report(&queue, &["batch", "stop", &preview.to_string()]).await;
    assert_eq!(
        (again.exit(), &again.document()["stopped"]),
        (Exit::InPart, &json!(false))
    );
    for words in [["batch", "show", "77"], ["batch", "stop", "77"]] {
        assert_eq!(
            report(&queue, &words).await.exit(),
            Exit::InPart,
            "{words:?}"
        );
    }
}

/// The table of questions names what is there: the file, each command, each page, in both languages.
#[tokio::test]
async fn each_of_the_fifteen_questions_has_its_sql_its_commands_and_its_page() {
    use clap::CommandFactory;
    let commands: Vec<String> = Line::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let router = include_str!("../../src/console.rs");
    for page in [
        include_str!("../../docs/operators.md"),
        include_str!("../../docs/operators.zh-CN.md"),
    ] {
        let rows: Vec<Vec<&str>> = page
            .lines()
            .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        assert_eq!(rows.len(), 15);
        for row in rows {
            let (_, file) = row[3].split_once("](../").unwrap();
            let file =
                concat!(env!("CARGO_MANIFEST_DIR"), "/").to_owned() + file.trim_end_matches(')');
            assert!(std::path::Path::new(&file).exists(), "{file}");
            let named = row[4]
                .split('`')
                .filter_map(|word| word.strip_prefix("wxnotify "));
            let named: Vec<&str> = named.collect();
            assert!(!named.is_empty(), "{row:?}");
            for command in named {
                assert!(commands.iter().any(|known| known == command), "{command}");
            }
            let route = format!(".route(\"{}\"", row[5].trim_matches('`'));
            assert!(router.contains(&route), "{route}");
        }
    }
}
