//! Verbs over many rows at a pace, from the command line: previewed, stopped, gone on with and undone.

use std::process::Stdio;

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use wxnotify::exit::Exit;
use wxnotify::operate::report::{Report, Style};
use wxnotify::operate::{OperateError, execute};
use wxnotify::store::Store;

use crate::harness::{Line, eventually, wxnotify};
use crate::kernel::{APP, Outcome, Queue, lease, start};

async fn try_run(queue: &Queue, words: &[&str]) -> anyhow::Result<Report> {
    let line = Line::try_parse_from(std::iter::once("wxnotify").chain(words.iter().copied()))?;
    execute(line.command, &Store::new(queue.pool().clone())).await
}

async fn report(queue: &Queue, words: &[&str]) -> Report {
    try_run(queue, words)
        .await
        .unwrap_or_else(|error| panic!("wxnotify {words:?}: {error:#}"))
}

/// A queue with so many dead letters.
async fn dead_letters(count: usize) -> Queue {
    let queue = Queue::new().await;
    let rows = (0..count)
        .map(|n| json!({"openid": format!("user-{n}"), "business_ref": format!("order {n}")}));
    let ids = queue.enqueue_all(rows).await;
    let lease = queue.lease_and_start("w").await;
    let outcomes: Vec<_> = ids
        .iter()
        .map(|id| Outcome::dead(*id, 47003, "kept"))
        .collect();
    queue.settle(&lease, &outcomes).await;
    queue
}

async fn count(queue: &Queue, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

const PENDING: &str = "select count(*) from pending_notifications";

#[tokio::test]
async fn a_redrive_at_a_pace_needs_a_reason_a_choice_and_a_pace() {
    let queue = dead_letters(2).await;
    for (words, said) in [
        (
            &["redrive", "--appid", APP, "--pace", "600/min"][..],
            "need a reason",
        ),
        (
            &[
                "redrive", "--appid", APP, "--pace", "600/min", "--note", "  ",
            ],
            "need a reason",
        ),
        (
            &["redrive", "--pace", "600/min", "--note", "why"],
            "nothing was changed",
        ),
        (
            &["redrive", "--appid", APP, "--pace", "soon", "--note", "why"],
            "600/min",
        ),
        (
            &[
                "redrive",
                "--appid",
                APP,
                "--pace",
                "1/s",
                "--send-at",
                "+1h",
                "--note",
                "why",
            ],
            "cannot be used with",
        ),
        (
            &[
                "cancel", "--appid", APP, "--pace", "1/s", "--doubts", "--note", "why",
            ],
            "cannot be used with",
        ),
    ] {
        let error = try_run(&queue, words).await.expect_err(said);
        assert!(error.to_string().contains(said), "{words:?}: {error}");
    }
    assert_eq!(count(&queue, PENDING).await, 0);
    assert_eq!(
        count(&queue, "select count(*) from operator_batches").await,
        0
    );
}

#[tokio::test]
async fn what_would_be_changed_is_said_with_its_causes_and_nothing_is_changed() {
    let queue = dead_letters(3).await;
    let words = ["redrive", "--appid", APP, "--pace", "10/s", "--dry-run"];
    let tried = report(&queue, &words).await;
    let text = tried.to_text(Style::PLAIN);
    assert!(
        text.contains("0 of 3 rows done") && text.contains("47003"),
        "{text}"
    );
    assert_eq!(count(&queue, PENDING).await, 0);
}

#[tokio::test]
async fn what_a_paced_redrive_made_and_nobody_sent_is_taken_back_and_can_be_redriven_again() {
    let queue = dead_letters(5).await;
    let words = [
        "redrive",
        "--appid",
        APP,
        "--pace",
        "10000/s",
        "--note",
        "the field is mended",
    ];
    let done = report(&queue, &words).await;
    assert_eq!((done.exit(), count(&queue, PENDING).await), (Exit::Done, 5));
    let batch = done.document()["batch"]["id"].to_string();
    let lease = lease(queue.pool(), APP, 1, "w", 1).await.unwrap().unwrap();
    assert!(start(queue.pool(), &lease).await);
    queue.settle(&lease, &[Outcome::sent(lease.ids[0])]).await;

    let tried = report(&queue, &["batch", "undo", &batch, "--dry-run"]).await;
    assert_eq!(tried.document()["batch"]["left_out"], 1, "one was sent");
    let undone = report(&queue, &["batch", "undo", &batch, "--note", "too early"]).await;
    assert_eq!(undone.document()["batch"]["changed"], 4);
    assert_eq!(
        (undone.exit(), count(&queue, PENDING).await),
        (Exit::InPart, 0)
    );

    let again = report(&queue, &words).await;
    assert_eq!(again.document()["batch"]["changed"], 4);
    assert_eq!(
        again.exit(),
        Exit::InPart,
        "the one that was sent is redriven already"
    );
}

#[tokio::test]
async fn only_a_redrive_that_is_there_can_be_undone() {
    let queue = dead_letters(1).await;
    queue.enqueue(json!({})).await;
    let cancel = ["cancel", "--appid", APP, "--pace", "10/s", "--note", "why"];
    let batch = report(&queue, &cancel).await.document()["batch"]["id"].to_string();
    let refused = try_run(&queue, &["batch", "undo", &batch, "--note", "why"]).await;
    let error = refused.unwrap_err();
    assert!(
        error
            .downcast_ref::<OperateError>()
            .is_some_and(|error| error.exit == Exit::Usage)
    );
    assert!(error.to_string().contains("only a redrive"), "{error}");
    for words in [["batch", "undo", "77"], ["batch", "run", "77"]] {
        assert_eq!(report(&queue, &words).await.exit(), Exit::InPart);
    }
    let ended = report(&queue, &["batch", "run", &batch]).await;
    assert_eq!(ended.exit(), Exit::InPart, "it has ended");
}

#[tokio::test]
async fn ctrl_c_stops_at_the_pace_and_another_run_goes_on_with_the_rest() {
    let queue = dead_letters(40).await;
    let mut command = tokio::process::Command::from(wxnotify());
    let program = command
        .args([
            "redrive", "--appid", APP, "--pace", "120/min", "--note", "slowly", "--json",
        ])
        .env("DATABASE_URL", queue.url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("some are redriven", async || {
        (count(&queue, PENDING).await >= 2).then_some(())
    })
    .await;
    let id = i32::try_from(program.id().unwrap()).unwrap();
    kill(Pid::from_raw(id), Signal::SIGINT).unwrap();
    let output = program.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["batch"]["state"], "stopped");
    let redriven = count(&queue, PENDING).await;
    assert!((2..40).contains(&redriven), "{redriven}");
    assert_eq!(document["batch"]["changed"], redriven);

    let rest = [
        "redrive", "--appid", APP, "--pace", "10000/s", "--note", "the rest",
    ];
    report(&queue, &rest).await;
    assert_eq!(count(&queue, PENDING).await, 40);
}

#[tokio::test]
async fn a_batch_whose_command_died_is_gone_on_with() {
    let queue = dead_letters(3).await;
    let batch: i64 = sqlx::query_scalar(
        "select preview_batch('redrive', jsonb_build_object('appid', $1::text))",
    )
    .bind(APP)
    .fetch_one(queue.pool())
    .await
    .unwrap();
    sqlx::query("select start_batch($1, 'why', null)")
        .bind(batch)
        .execute(queue.pool())
        .await
        .unwrap();
    let done = report(&queue, &["batch", "run", &batch.to_string()]).await;
    assert_eq!(done.document()["batch"]["state"], "done");
    assert_eq!(count(&queue, PENDING).await, 3);
}
