//! The operators' commands and verbs: what they change, what they leave, and what they write down.

use clap::Parser;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use wxnotify::exit::Exit;
use wxnotify::operate::report::{Report, Style};
use wxnotify::operate::{OperateError, execute};
use wxnotify::store::Store;

use crate::harness::{self, Line};
use crate::kernel::{self, APP, Outcome, Queue, in_secs};

async fn try_command(queue: &Queue, words: &str) -> anyhow::Result<Report> {
    let line = Line::try_parse_from(std::iter::once("wxnotify").chain(words.split_whitespace()))?;
    execute(line.command, &Store::new(queue.pool().clone())).await
}

/// Runs a command; gives the document of `--json`.
async fn command(queue: &Queue, words: &str) -> Value {
    report(queue, words).await.document().clone()
}

async fn report(queue: &Queue, words: &str) -> Report {
    try_command(queue, words)
        .await
        .unwrap_or_else(|error| panic!("wxnotify {words}: {error:#}"))
}

/// Runs a command that must fail; gives its message and exit code.
async fn refused(queue: &Queue, words: &str) -> (String, Exit) {
    let error = try_command(queue, words).await.unwrap_err();
    let error = error
        .downcast_ref::<OperateError>()
        .unwrap_or_else(|| panic!("{error:#}"));
    (error.to_string(), error.exit)
}

async fn status(queue: &Queue, id: i64) -> String {
    sqlx::query_scalar("select status from notifications where id = $1")
        .bind(id)
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

/// The audit rows as JSON, oldest first.
async fn actions(queue: &Queue) -> Vec<Value> {
    sqlx::query_scalar("select to_jsonb(a) from operator_actions a order by id")
        .fetch_all(queue.pool())
        .await
        .unwrap()
}

async fn answer(queue: &Queue, expression: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(format!("select ({expression})::text")))
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

/// One row of each sort that a verb must tell apart: free, in flight, in doubt.
async fn free_in_flight_and_in_doubt(queue: &Queue) -> (i64, i64, i64) {
    let row = |user: &str| json!({"openid": user, "business_ref": "order-1"});
    let doubtful = queue.enqueue(row("doubtful")).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::doubt(doubtful)]).await;
    let in_flight = queue.enqueue(row("in-flight")).await;
    queue.lease_and_start("worker/1").await;
    let free = queue.enqueue(row("free")).await;
    (free, in_flight, doubtful)
}

async fn dead_row(queue: &Queue, errcode: i64) -> i64 {
    let id = queue
        .enqueue(json!({"openid": format!("user-{errcode}"), "business_ref": "order-1"}))
        .await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(&lease, &[Outcome::dead(id, errcode, "kept")])
        .await;
    id
}

#[tokio::test]
async fn cancel_takes_free_rows_and_reports_those_in_flight_and_in_doubt() {
    let queue = Queue::new().await;
    let (free, in_flight, doubtful) = free_in_flight_and_in_doubt(&queue).await;

    let report = report(&queue, "cancel --business-ref order-1 --note recalled").await;

    assert_eq!(report.exit(), Exit::InPart);
    let document = report.document();
    assert_eq!(document["changed"], 1);
    assert_eq!(
        document["results"],
        json!({"cancelled": 1, "in flight": 1, "in doubt": 1})
    );
    assert_eq!(queue.history(free).await.settled_by, "operator");
    assert_eq!(status(&queue, in_flight).await, "sending");
    assert_eq!(status(&queue, doubtful).await, "in_doubt");
    let text = report.to_text(Style::PLAIN);
    assert!(text.contains("next: in flight:"), "{text}");
    assert!(text.contains("next: in doubt:"), "{text}");
}

/// Asked for all at once, so many rows' statuses took a minute where no statistics told the planner how many they are.
#[tokio::test]
async fn what_a_long_cancel_did_stays_done_and_is_said_when_it_fails() {
    let queue = Queue::new().await;
    let busy = format!(
        "insert into pending_notifications (appid, openid, template_id, data, business_ref)
         select '{APP}', 'busy', 'template-1', '{{\"thing1\": \"x\"}}', 'order-1' from generate_series(1, 2500)"
    );
    kernel::run(queue.pool(), &busy).await;
    let dry = command(
        &queue,
        "cancel --business-ref order-1 --limit 9000 --dry-run",
    )
    .await;
    assert_eq!(dry["would_change"], 2500);
    for statement in [
        "create function fill() returns trigger language plpgsql as $$ begin
             if (select count(*) from operator_actions) = 2 then raise exception 'the disk is full'; end if;
             return new;
         end $$",
        "create trigger fill before insert on operator_actions for each row execute function fill()",
    ] {
        kernel::run(queue.pool(), statement).await;
    }
    let words = "cancel --business-ref order-1 --limit 9000";
    let error = try_command(&queue, words).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("2000 of 2500 notifications were changed, and stay so"),
        "{error}"
    );
    assert!(error.contains("the disk is full"), "{error}");
    kernel::run(queue.pool(), "drop trigger fill on operator_actions").await;
    assert_eq!(command(&queue, words).await["changed"], 500);
}

#[tokio::test]
async fn cancel_with_doubts_ends_them_unresolved_never_cancelled() {
    let queue = Queue::new().await;
    let (_, _, doubtful) = free_in_flight_and_in_doubt(&queue).await;
    command(&queue, "cancel --business-ref order-1 --doubts").await;
    assert_eq!(queue.history(doubtful).await.status, "unresolved");
}

#[tokio::test]
async fn the_sql_verbs_answer_in_a_word_for_each_kind_of_row() {
    let queue = Queue::new().await;
    let (free, in_flight, doubtful) = free_in_flight_and_in_doubt(&queue).await;
    for (call, word) in [
        (format!("cancel_notification({in_flight})"), "in flight"),
        (
            format!("reschedule_notification({in_flight}, now())"),
            "in flight",
        ),
        (
            format!("reschedule_notification({doubtful}, now())"),
            "in doubt",
        ),
        (format!("confirm_sent({free})"), "not in doubt"),
        (format!("confirm_sent({in_flight})"), "in flight"),
        (format!("retry_anyway({free})"), "not in doubt"),
        (format!("cancel_notification({doubtful})"), "unresolved"),
        (format!("cancel_notification({free})"), "cancelled"),
        (format!("cancel_notification({free})"), "cancelled"),
        (format!("confirm_not_sent({doubtful})"), "unresolved"),
        ("cancel_notification(4711)".to_owned(), "not found"),
    ] {
        assert_eq!(answer(&queue, &call).await, word, "{call}");
    }
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_reported_busy_at_once() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let mut session = queue.session().await;
    kernel::run(&mut session, "begin").await;
    kernel::run(
        &mut session,
        &format!("update pending_notifications set page = 'p' where id = {id}"),
    )
    .await;

    let report = report(&queue, &format!("cancel --id {id}")).await;

    assert_eq!(report.document()["results"], json!({"busy": 1}));
    kernel::run(&mut session, "commit").await;
    assert_eq!(status(&queue, id).await, "due");
}

#[tokio::test]
async fn a_reserved_row_is_in_flight_for_every_verb() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    queue.lease("worker/1").await.unwrap();
    let cancelled = command(&queue, &format!("cancel --id {id}")).await;
    assert_eq!(cancelled["results"], json!({"in flight": 1}));
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_writes_nothing_down() {
    let queue = Queue::new().await;
    let dead = dead_row(&queue, 47003).await;
    let (free, _, doubtful) = free_in_flight_and_in_doubt(&queue).await;
    let before = answer(
        &queue,
        "(select jsonb_agg(to_jsonb(p) order by id) from pending_notifications p)",
    )
    .await;
    for words in [
        "cancel --business-ref order-1 --dry-run".to_owned(),
        format!("reschedule --id {free} --send-at +2h --dry-run"),
        "redrive --errcode 47003 --dry-run".to_owned(),
        format!("doubt confirm-sent --id {doubtful} --dry-run"),
        format!("doubt confirm-not-sent --id {doubtful} --dry-run"),
        format!("doubt retry-anyway --id {doubtful} --dry-run"),
        "app add wx-new --dry-run".to_owned(),
        format!("app pause {APP} --dry-run"),
        format!("app resume {APP} --dry-run"),
        format!("app rate {APP} 5 --dry-run"),
        format!("template pause {APP} template-1 --dry-run"),
    ] {
        let document = command(&queue, &words).await;
        assert_eq!(document["dry_run"], true, "{words}");
        if words.contains("--id") || words.contains("errcode") || words.contains("cancel") {
            assert_eq!(document["would_change"], 1, "{words}: {document}");
        }
    }
    let after = answer(
        &queue,
        "(select jsonb_agg(to_jsonb(p) order by id) from pending_notifications p)",
    )
    .await;
    assert_eq!(before, after);
    assert_eq!(status(&queue, dead).await, "dead");
    assert_eq!(actions(&queue).await, Vec::<Value>::new());
    let apps = command(&queue, "app list").await;
    assert_eq!(apps["apps"].as_array().unwrap().len(), 1);
    assert_eq!(apps["apps"][0]["paused"], false);
}

#[tokio::test]
async fn the_limit_caps_a_change_and_says_that_more_match() {
    let queue = Queue::new().await;
    queue.enqueue_many(APP, 5).await;

    let first = report(&queue, &format!("cancel --appid {APP} --limit 3")).await;

    assert_eq!(first.document()["changed"], 3);
    assert_eq!(first.document()["more"], true);
    assert_eq!(first.exit(), Exit::InPart);
    let text = first.to_text(Style::PLAIN);
    assert!(text.contains("More than 3 match"), "{text}");
    let second = report(&queue, &format!("cancel --appid {APP} --limit 3")).await;
    assert_eq!(second.document()["changed"], 2);
    assert_eq!(second.exit(), Exit::Done);
}

#[tokio::test]
async fn more_rows_than_a_transaction_may_hold_are_changed_in_several() {
    let queue = Queue::new().await;
    queue.enqueue_many(APP, 2_100).await;
    let done = command(&queue, &format!("cancel --appid {APP} --limit 5000")).await;
    assert_eq!(done["changed"], 2_100);
    assert_eq!(
        actions(&queue).await.len(),
        3,
        "an audit row for each transaction"
    );
    let error = sqlx::query(
        "select * from cancel_notifications(array(select generate_series(1, 1001)::bigint))",
    )
    .execute(queue.pool())
    .await
    .unwrap_err();
    assert!(error.to_string().contains("at most 1000"), "{error}");
}

#[tokio::test]
async fn an_empty_selection_is_refused_before_anything_happens() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    for words in [
        "cancel",
        "reschedule --send-at now",
        "redrive",
        "doubt retry-anyway",
        "cancel --doubts",
    ] {
        let (message, exit) = refused(&queue, words).await;
        assert_eq!(exit, Exit::Usage, "{words}");
        assert!(
            message.contains("--id") && message.contains("next:"),
            "{words}: {message}"
        );
    }
    assert_eq!(status(&queue, id).await, "due");
    assert!(actions(&queue).await.is_empty());
}

#[tokio::test]
async fn a_change_is_written_down_with_who_why_and_what_was_asked() {
    let queue = Queue::new().await;
    let id = queue
        .enqueue(json!({"openid": "oSecretUser", "business_ref": "order-9"}))
        .await;
    let line = Line::try_parse_from([
        "wxnotify",
        "cancel",
        "--business-ref",
        "order-9",
        "--note",
        "shop closed",
    ])
    .unwrap();
    execute(line.command, &Store::new(queue.pool().clone()))
        .await
        .unwrap();

    let actions = actions(&queue).await;
    assert_eq!(actions.len(), 1);
    let action = &actions[0];
    assert_eq!(action["action"], "cancel");
    assert_eq!(action["rows_changed"], 1);
    assert_eq!(action["note"], "shop closed");
    assert_eq!(action["filter"]["business_ref"], "order-9");
    let actor = action["actor"].as_str().unwrap();
    assert!(
        actor.contains('(') && actor.len() > 4,
        "database and system user: {actor}"
    );
    assert!(!action.to_string().contains("oSecretUser"), "{action}");
    assert_eq!(status(&queue, id).await, "cancelled");
}

#[tokio::test]
async fn reschedule_moves_a_row_and_frees_the_dedup_key_it_had_claimed() {
    let queue = Queue::new().await;
    let first = queue
        .enqueue(json!({"dedup_key": "k", "openid": "one"}))
        .await;
    let lease = queue.lease_and_start("worker/1").await;
    let retry = Outcome {
        delay_secs: 60.0,
        ..Outcome::retry(first)
    };
    queue.settle(&lease, &[retry]).await;

    command(&queue, &format!("reschedule --id {first} --send-at +2h")).await;

    assert_eq!(status(&queue, first).await, "scheduled");
    let second = queue
        .enqueue(json!({"dedup_key": "k", "openid": "two"}))
        .await;
    let lease = queue.lease_and_start("worker/1").await;
    assert_eq!(lease.ids, [second], "the key is free for another");
}

#[tokio::test]
async fn reschedule_never_lets_a_row_expire_before_it_is_sent() {
    let queue = Queue::new().await;
    let id = queue
        .enqueue(json!({"send_at": in_secs(60), "expire_at": in_secs(600)}))
        .await;
    let left = command(&queue, &format!("reschedule --id {id} --send-at +1h")).await;
    assert_eq!(left["results"], json!({"expires before send_at": 1}));
    let (message, exit) = refused(
        &queue,
        &format!("reschedule --id {id} --send-at +2h --expire-at +1h"),
    )
    .await;
    assert_eq!(exit, Exit::Usage, "{message}");
    let moved = command(
        &queue,
        &format!("reschedule --id {id} --send-at +1h --expire-at +2h"),
    )
    .await;
    assert_eq!(moved["changed"], 1);
    assert_eq!(status(&queue, id).await, "scheduled");
}

#[tokio::test]
async fn a_held_credit_that_is_rescheduled_stays_held() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"held": true})).await;
    command(&queue, &format!("reschedule --id {id} --send-at now")).await;
    assert_eq!(status(&queue, id).await, "held");
}

#[tokio::test]
async fn a_redrive_is_a_new_row_linked_to_the_old_one_and_happens_once() {
    let queue = Queue::new().await;
    let dead = dead_row(&queue, 47003).await;
    let other = dead_row(&queue, 43101).await;

    let done = command(&queue, "redrive --errcode 47003").await;

    assert_eq!(done["changed"], 1);
    let new = done["rows"][0]["new_id"].as_i64().unwrap();
    assert_eq!(status(&queue, new).await, "due");
    assert_eq!(status(&queue, dead).await, "dead", "the history stays");
    assert_eq!(status(&queue, other).await, "dead");
    let story = command(&queue, &format!("explain {dead}")).await;
    assert!(
        story["what_next"]
            .as_str()
            .unwrap()
            .contains(&new.to_string()),
        "{story}"
    );
    let story = command(&queue, &format!("explain {new}")).await;
    assert_eq!(story["timeline"][0]["redrive_of"], dead);

    let again = command(&queue, "redrive --errcode 47003").await;
    assert_eq!(
        again["matched"], 0,
        "a repeated command reaches the next rows, not the same ones"
    );
    let by_id = command(&queue, &format!("redrive --id {dead}")).await;
    assert_eq!(by_id["results"], json!({"already redriven": 1}));
    assert_eq!(by_id["rows"][0]["new_id"], new);
}

#[tokio::test]
async fn a_redrive_of_a_row_whose_credit_is_gone_says_so() {
    let queue = Queue::new().await;
    let gone = dead_row(&queue, 43101).await;

    let report = report(&queue, &format!("redrive --id {gone}")).await;

    let done = report.document();
    assert_eq!(done["changed"], 1);
    assert_eq!(
        done["results"],
        json!({"redriven, but its credit was gone": 1})
    );
    let text = report.to_text(Style {
        coloured: false,
        width: None,
    });
    assert!(text.contains("43101"), "{text}");
    let new = done["rows"][0]["new_id"].as_i64().unwrap();
    assert_eq!(status(&queue, new).await, "due");
}

#[tokio::test]
async fn a_row_that_its_open_lease_has_settled_can_be_cancelled() {
    let queue = Queue::new().await;
    let settled = queue.enqueue(json!({"openid": "one"})).await;
    let open = queue.enqueue(json!({"openid": "two"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    kernel::settle(queue.pool(), &lease, false, &[Outcome::retry(settled)])
        .await
        .unwrap();
    for (id, expected) in [(settled, "cancelled"), (open, "in flight")] {
        let word = answer(&queue, &format!("cancel_notification({id})")).await;
        assert_eq!(word, expected);
    }
}

#[tokio::test]
async fn an_expired_row_is_redriven_without_its_old_end_and_a_sent_one_never() {
    let queue = Queue::new().await;
    let expired = queue
        .enqueue(json!({"expire_at": in_secs(-1), "openid": "late"}))
        .await;
    queue.tidy(APP).await;
    let sent = queue.enqueue(json!({"openid": "sent"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::sent(sent)]).await;

    let done = command(&queue, &format!("redrive --id {expired} --id {sent}")).await;

    assert_eq!(done["results"], json!({"no match": 1, "redriven": 1}));
    let new = answer(&queue, "select new_id from notification_redrives")
        .await
        .parse()
        .unwrap();
    assert_eq!(status(&queue, new).await, "due");
    let error = sqlx::query(AssertSqlSafe(format!(
        "select redrive_notification({sent})"
    )))
    .execute(queue.pool())
    .await
    .unwrap_err();
    assert!(
        error.to_string().contains("cannot be redriven: sent"),
        "{error}"
    );
}

#[tokio::test]
async fn a_doubt_ends_by_the_operators_word() {
    let queue = Queue::new().await;
    let ids = [
        queue
            .enqueue(json!({"openid": "one", "on_doubt": "hold"}))
            .await,
        queue
            .enqueue(json!({"openid": "two", "on_doubt": "hold", "attempts_max": 1}))
            .await,
        queue
            .enqueue(json!({"openid": "three", "on_doubt": "hold", "attempts_max": 1}))
            .await,
    ];
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &ids.map(Outcome::doubt)).await;
    let listed = command(&queue, "doubt list").await;
    assert_eq!(listed["doubts"].as_array().unwrap().len(), 3);

    command(&queue, &format!("doubt confirm-sent --id {}", ids[0])).await;
    command(&queue, &format!("doubt confirm-not-sent --id {}", ids[1])).await;
    command(&queue, &format!("doubt retry-anyway --id {}", ids[2])).await;

    let ended = queue.history(ids[0]).await;
    assert_eq!(
        (ended.status.as_str(), ended.settled_by.as_str()),
        ("sent", "operator")
    );
    assert!(queue.pending(ids[1]).await.in_doubt_since.is_none());
    assert!(
        queue.pending(ids[2]).await.in_doubt_since.is_some(),
        "the doubt stays on record"
    );
    // Attempts were used up; the operator's word gives one more.
    queue.tidy(APP).await;
    let lease = queue.lease_and_start("worker/1").await;
    assert_eq!(lease.ids, [ids[1], ids[2]]);
    queue
        .settle(&lease, &[Outcome::sent(ids[1]), Outcome::sent(ids[2])])
        .await;
    for (id, doubled) in [(ids[1], "false"), (ids[2], "true")] {
        let may_be_doubled = answer(
            &queue,
            &format!("select may_be_doubled from notifications where id = {id}"),
        )
        .await;
        assert_eq!(may_be_doubled, doubled, "{id}");
    }
    let actions: Vec<String> = actions(&queue)
        .await
        .iter()
        .map(|a| a["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        actions,
        ["confirm_sent", "confirm_not_sent", "retry_anyway"]
    );
}

#[tokio::test]
async fn an_added_app_starts_the_rows_that_waited_for_it() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"appid": "wx-new"})).await;
    queue.tidy("wx-new").await;
    assert_eq!(status(&queue, id).await, "paused");

    let added = command(&queue, "app add wx-new --name Shop --rate 50 --default").await;

    assert_eq!(added["new"], true);
    assert_eq!(added["rows_made_due"], 1);
    assert_eq!(status(&queue, id).await, "due");
    let default: String = sqlx::query_scalar(
        "insert into pending_notifications (openid, template_id, data) values ('u', 't', '{\"thing1\": \"x\"}') returning appid",
    )
    .fetch_one(queue.pool())
    .await
    .unwrap();
    assert_eq!(default, "wx-new");
    let apps = command(&queue, "app list").await;
    let app = apps["apps"]
        .as_array()
        .unwrap()
        .iter()
        .find(|app| app["appid"] == "wx-new")
        .unwrap();
    assert_eq!(app["is_default"], true);
    assert_eq!(app["rate_per_second"], 50.0);

    let changed = command(&queue, "app rate wx-new none").await;
    assert_eq!(changed["rate_per_second"], Value::Null);
    let again = command(&queue, "app add wx-new --name Store").await;
    assert_eq!(again["new"], false);
}

#[tokio::test]
async fn adding_a_paused_app_again_does_not_resume_it() {
    let queue = Queue::new().await;
    command(&queue, &format!("app pause {APP}")).await;
    command(&queue, &format!("app add {APP} --name Shop")).await;
    let apps = command(&queue, "app list").await;
    assert_eq!(apps["apps"][0]["paused"], true);
}

#[tokio::test]
async fn a_paused_app_and_template_send_nothing_until_resumed() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    for what in [APP.to_owned(), format!("{APP} template-1")] {
        let verb = if what.contains(' ') {
            "template"
        } else {
            "app"
        };
        command(&queue, &format!("{verb} pause {what}")).await;
        assert!(queue.lease("worker/1").await.is_none(), "{what}");
        queue.tidy(APP).await;
        assert_eq!(status(&queue, id).await, "paused");

        let resumed = command(&queue, &format!("{verb} resume {what}")).await;

        assert_eq!(resumed["rows_made_due"], 1, "{what}");
        assert_eq!(status(&queue, id).await, "due");
    }
    assert_eq!(queue.lease_and_start("worker/1").await.ids, [id]);
}

/// A tidy that saw the pause has parked rows that are not committed yet; the resume must wait for it.
#[tokio::test]
async fn resume_waits_for_the_app_lock_before_it_looks_for_parked_rows() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    command(&queue, &format!("template pause {APP} template-1")).await;
    let mut tidying = queue.session().await;
    kernel::run(&mut tidying, "begin").await;
    kernel::run(
        &mut tidying,
        &format!("select wxnotify_tidy('{APP}', 1::smallint)"),
    )
    .await;

    let mut resuming = queue.session().await;
    let backend = kernel::backend(&mut resuming).await;
    let resume = tokio::spawn(async move {
        let rows: i32 = sqlx::query_scalar(AssertSqlSafe(format!(
            "select resume_template('{APP}', 'template-1')"
        )))
        .fetch_one(&mut resuming)
        .await
        .unwrap();
        rows
    });
    queue.until_blocked(backend).await;
    kernel::run(&mut tidying, "commit").await;

    assert_eq!(resume.await.unwrap(), 1);
    assert_eq!(status(&queue, id).await, "due");
}

#[tokio::test]
async fn an_unknown_app_or_template_is_refused_with_the_known_ones() {
    let queue = Queue::new().await;
    for words in [
        "app pause wx-typo",
        "app resume wx-typo",
        "app rate wx-typo 5",
        "template pause wx-typo t",
    ] {
        let (message, exit) = refused(&queue, words).await;
        assert_eq!(exit, Exit::Usage, "{words}");
        assert!(
            message.contains("wx-typo") && message.contains(APP) && message.contains("next:"),
            "{message}"
        );
    }
    let (message, _) = refused(&queue, &format!("template resume {APP} never-paused")).await;
    assert!(message.contains("never paused"), "{message}");
    let (message, _) = refused(&queue, "app add bad!id").await;
    assert!(message.contains("bad!id"), "{message}");
}

#[tokio::test]
async fn status_is_calm_when_all_is_well_and_names_the_next_step_when_not() {
    let queue = Queue::new().await;
    let calm = report(&queue, "status").await;
    assert_eq!(calm.document()["next_steps"], json!([]));
    assert!(calm.to_text(Style::PLAIN).contains("Nothing needs you."));

    dead_row(&queue, 47003).await;
    let doubtful = queue.enqueue(json!({"openid": "doubtful"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::doubt(doubtful)]).await;
    queue.enqueue(json!({"openid": "waiting"})).await;
    queue.enqueue(json!({"appid": "wx-stranger"})).await;
    command(&queue, &format!("template pause {APP} template-9")).await;

    let busy = report(&queue, "status").await;

    let document = busy.document();
    for key in [
        "backlog",
        "oldest_due",
        "in_doubt",
        "failures_last_day",
        "dead_last_day",
        "workers",
        "pauses",
        "tokens",
    ] {
        assert!(document.get(key).is_some(), "{key}");
    }
    assert_eq!(document["in_doubt"], 1);
    assert_eq!(document["dead_last_day"][0]["errcode"], 47003);
    let steps = document["next_steps"].to_string();
    for word in [
        "wxnotify run",
        "wxnotify app add wx-stranger",
        "wxnotify template resume",
        "wxnotify doubt list",
        "47003",
    ] {
        assert!(steps.contains(word), "{word}: {steps}");
    }
    let text = busy.to_text(Style::PLAIN);
    assert!(
        !text.contains('\u{1b}') && !text.contains('│') && !text.contains("+--"),
        "{text}"
    );
    let only = command(&queue, "status --appid wx-stranger").await;
    assert_eq!(only["backlog"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn dead_lists_the_latest_letters_with_their_meaning() {
    let queue = Queue::new().await;
    for errcode in [47003, 43101, 41030] {
        dead_row(&queue, errcode).await;
    }
    let listed = command(&queue, "dead --limit 2").await;
    assert_eq!(listed["dead_letters"].as_array().unwrap().len(), 2);
    assert_eq!(listed["more"], true);
    let one = command(&queue, "dead --errcode 43101").await;
    assert!(
        one["dead_letters"][0]["meaning"]
            .as_str()
            .unwrap()
            .contains("43101"),
        "{one}"
    );
    assert!(
        !one.to_string().contains("user-43101"),
        "no openid is printed: {one}"
    );
}

#[tokio::test]
async fn token_status_tells_the_state_without_the_token() {
    let queue = Queue::new().await;
    kernel::run(
        queue.pool(),
        &format!("insert into wechat_access_tokens (appid, access_token, expires_at) values ('{APP}', 'SECRET-TOKEN', now() + interval '1 hour')"),
    )
    .await;
    let report = report(&queue, "token status").await;
    assert_eq!(report.document()["tokens"][0]["valid"], true);
    let shown = report.to_text(Style::PLAIN) + &report.to_json();
    assert!(
        shown.contains("valid") && !shown.contains("SECRET"),
        "{shown}"
    );
}

#[tokio::test]
async fn explain_of_an_unknown_id_says_so_in_both_languages() {
    let queue = Queue::new().await;
    let english = report(&queue, "explain 4711").await;
    assert_eq!(english.exit(), Exit::InPart);
    assert!(english.to_text(Style::PLAIN).contains("next: Look for it"));
    let chinese = report(&queue, "explain 4711 --zh").await;
    assert!(
        chinese
            .to_text(Style::PLAIN)
            .contains("没有编号为 4711 的通知")
    );
}

#[tokio::test]
async fn explain_shows_the_timeline_of_a_row_without_its_receiver() {
    let queue = Queue::new().await;
    let dead = dead_row(&queue, 47003).await;
    let report = report(&queue, &format!("explain {dead}")).await;
    let text = report.to_text(Style::PLAIN);
    for word in ["dead", "47003", "Timeline", "created", "attempt", "ended"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("user-47003"), "{text}");
}

#[tokio::test]
async fn the_program_prints_json_and_ends_with_the_code_of_its_answer() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let run = |arguments: &[&str]| {
        let mut command = harness::wxnotify();
        command.env("DATABASE_URL", queue.url()).args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };

    let explained = run(&["explain", &id.to_string(), "--json"]).await.unwrap();
    assert_eq!(explained.status.code(), Some(0), "{explained:?}");
    let document: Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(document["status"], "due");

    let unknown = run(&["explain", "4711"]).await.unwrap();
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");

    let empty = run(&["cancel"]).await.unwrap();
    assert_eq!(empty.status.code(), Some(2), "{empty:?}");
    assert!(
        String::from_utf8_lossy(&empty.stderr).contains("next:"),
        "{empty:?}"
    );
    assert!(empty.stdout.is_empty());
}

#[tokio::test]
async fn without_the_schema_the_program_says_to_migrate() {
    let queue = Queue::new().await;
    kernel::run(queue.pool(), "alter schema public rename to away").await;
    kernel::run(queue.pool(), "create schema public").await;
    let mut command = harness::wxnotify();
    command.env("DATABASE_URL", queue.url()).arg("status");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("wxnotify migrate"), "{message}");
}

#[tokio::test]
async fn a_database_that_is_away_is_named_as_such() {
    let mut command = harness::wxnotify();
    command
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
        .arg("status");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("DATABASE_URL"), "{message}");
}

#[tokio::test]
async fn status_names_what_wechat_punished_lately() {
    let queue = Queue::new().await;
    let punish = "select wxnotify_ingest_event($1, '{\"Event\": \"wxa_punish_event\", \"event_type\": \"4\", \"illegal_reason\": \"滥用\"}')";
    sqlx::query(punish)
        .bind(APP)
        .execute(queue.pool())
        .await
        .unwrap();

    let report = report(&queue, "status").await;

    let told = &report.document()["punishments_last_week"][0];
    assert_eq!(
        (&told["appid"], &told["punishment"]),
        (&json!(APP), &json!("account banned"))
    );
    let text = report.to_text(Style::PLAIN);
    assert!(text.contains("account banned: 滥用"), "{text}");
    let elsewhere = command(&queue, "status --appid wx-another").await;
    assert_eq!(elsewhere["punishments_last_week"], json!([]));
}

/// Whoever inserts may name any appid: what is shown stays short, and those that somebody registered stay in it.
#[tokio::test]
async fn three_hundred_made_up_apps_do_not_flood_what_operators_read() {
    let queue = Queue::new().await;
    queue.enqueue(json!({"openid": "honest"})).await;
    let made_up = "insert into pending_notifications (appid, openid, template_id, data) \
                   select 'a-made-up-' || n, 'oUser', 'T1', '{\"thing1\": \"x\"}' from generate_series(1, 300) n";
    sqlx::query(made_up).execute(queue.pool()).await.unwrap();

    let status = report(&queue, "status").await;
    let doctor = report(&queue, "doctor").await;

    let text = status.to_text(Style::PLAIN);
    assert!(text.lines().count() < 100, "{} lines", text.lines().count());
    assert!(text.contains("… and 251 more mini-programs"), "{text}");
    assert!(text.contains("rows wait for 300 apps"), "{text}");
    assert!(text.contains(APP), "{text}");
    assert_eq!(status.document()["left_out"]["backlog"], 251);
    assert!(status.to_json().len() < 100_000);
    let text = doctor.to_text(Style::PLAIN);
    assert!(text.contains("and 295 more"), "{text}");
    assert!(text.lines().all(|line| line.len() < 1000), "{text}");
}
