//! WeChat out of order: replies nobody can read, gateways that fail, nobody at home.

use serde_json::json;
use wxnotify::simulate::{Action, FakeWechat, Rule, SimulateOptions};

use super::{APP, SECRET, Scene};
use crate::harness::eventually;

/// Plays `action` on the only send of a mini-program of its own; what becomes of the row. The worker must live on.
async fn after(action: Action) -> super::Seen {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::send(action.clone()).openid("oFault"));
    let id = scene.insert("oFault", json!({})).await;
    let _worker = scene.start(&[]);
    eventually("the row's attempt is recorded", async || {
        let recorded = "select count(*) from notification_attempts";
        (scene.count(recorded).await == 1).then_some(())
    })
    .await;
    let next = scene.insert("oNext", json!({})).await;
    scene.until(next, "sent").await;
    assert_eq!(scene.sends_to("oFault"), 1, "{action:?}");
    scene.seen(id).await
}

async fn is_in_doubt_after(action: Action) -> String {
    let row = after(action.clone()).await;
    assert_eq!(row.status, "in_doubt", "{action:?}: {row:?}");
    assert_eq!((row.attempts, row.errcode), (1, None), "{action:?}");
    row.errmsg.expect("what happened is said")
}

#[tokio::test]
async fn a_reply_of_ten_megabytes_is_bounded_and_in_doubt() {
    let reason = is_in_doubt_after(Action::HugeBody {
        bytes: 10_000_000,
        after_credit: true,
    });
    let reason = reason.await;
    assert!(reason.contains("longer than"), "{reason}");
}

#[tokio::test]
async fn a_gateways_html_page_is_in_doubt_by_its_status() {
    let reason = is_in_doubt_after(Action::HttpStatus {
        status: 502,
        after_credit: true,
    });
    assert!(reason.await.contains("502"));
}

#[tokio::test]
async fn an_empty_reply_is_in_doubt() {
    is_in_doubt_after(Action::EmptyBody { after_credit: true }).await;
}

#[tokio::test]
async fn half_a_json_is_in_doubt() {
    is_in_doubt_after(Action::HalfJson { after_credit: true }).await;
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_in_doubt() {
    is_in_doubt_after(Action::CutBody { after_credit: true }).await;
}

#[tokio::test]
async fn a_reset_connection_is_in_doubt() {
    is_in_doubt_after(Action::reset_before_credit()).await;
}

#[tokio::test]
async fn an_errcode_that_fits_no_integer_is_in_doubt() {
    is_in_doubt_after(Action::HugeErrcode { after_credit: true }).await;
}

#[tokio::test]
async fn json_that_is_no_reply_is_in_doubt() {
    for body in ["null", "[]", "{}", "\"ok\"", r#"{"errcode":null}"#] {
        is_in_doubt_after(Action::Body {
            status: 200,
            body: body.into(),
            after_credit: false,
        })
        .await;
    }
}

/// A gateway that keeps an answer and gives it to the next request: the second row's message is not known to be sent.
#[tokio::test]
async fn an_answer_that_another_row_had_is_in_doubt_and_the_rows_after_it_are_sent() {
    let scene = Scene::new().await;
    let kept = Action::Body {
        status: 200,
        body: r#"{"errcode":0,"errmsg":"ok","msgid":3120045678901234567}"#.into(),
        after_credit: true,
    };
    scene.wechat.script(Rule::send(kept).times(2));
    let _worker = scene.start(&[]);
    let first = scene.insert("oFirst", json!({})).await;
    scene.until(first, "sent").await;
    let second = scene.insert("oSecond", json!({})).await;
    scene.until(second, "in_doubt").await;
    let third = scene.insert("oThird", json!({})).await;
    scene.until(third, "sent").await;

    let row = scene.seen(second).await;
    let reason = row.errmsg.expect("what happened is said");
    assert!(reason.contains("another request's"), "{reason}");
    assert_eq!((row.attempts, row.errcode), (1, None));
    let owners = "select count(*) from notifications where msgid = 3120045678901234567";
    assert_eq!(scene.count(owners).await, 1);
    // The first one may have had the other's answer as well: it keeps its status, and says so.
    let reason = eventually("the dispute is recorded", async || {
        let query = "select reason from notification_attempts where notification_id = $1 and result = 'sent'";
        let query = sqlx::query_scalar::<_, String>(query).bind(first);
        query.fetch_optional(scene.pool()).await.unwrap()
    })
    .await;
    assert!(
        reason.starts_with("disputed: its answer (msgid 3120045678901234567)"),
        "{reason}"
    );
    assert!(
        reason.contains(&format!("notification {second},")),
        "{reason}"
    );
    let told = "select status, timeline::text from explain_notification($1)";
    let told = sqlx::query_as::<_, (String, String)>(told).bind(first);
    let (status, timeline) = told.fetch_one(scene.pool()).await.unwrap();
    assert!(
        status == "sent" && timeline.contains("disputed"),
        "{status} {timeline}"
    );
}

/// As above, while the first row's outcome is not written yet.
#[tokio::test]
async fn an_answer_that_two_rows_had_before_either_was_settled_puts_both_in_doubt() {
    let scene = Scene::new().await;
    let kept = Action::Body {
        status: 200,
        body: r#"{"errcode":0,"errmsg":"ok","msgid":3120045678901234567}"#.into(),
        after_credit: true,
    };
    scene.wechat.script(Rule::send(kept).times(2));
    scene.wechat.hold();
    let first = scene.insert("oFirst", json!({})).await;
    let _worker = scene.start(&[]);
    scene.until_sends(1).await;
    let mut producer = scene.pool().begin().await.unwrap();
    sqlx::query("select from pending_notifications where id = $1 for update")
        .bind(first)
        .execute(&mut *producer)
        .await
        .unwrap();
    scene.wechat.release();
    let second = scene.insert("oSecond", json!({})).await;
    scene.until(second, "in_doubt").await;
    producer.commit().await.unwrap();

    let row = scene.until(first, "in_doubt").await;
    assert!(row.errmsg.unwrap().contains("another request"));
    assert_eq!((row.attempts, row.msgid), (1, None));
    let doubts = "select count(*) from notification_attempts";
    assert_eq!(scene.count(doubts).await, 2, "each says so once");
}

#[tokio::test]
async fn an_errcode_on_an_error_page_counts_and_a_nul_in_its_text_harms_nothing() {
    let row = after(Action::Body {
        status: 412,
        body: "{\"errcode\":47003,\"errmsg\":\"data\\u0000 invalid\"}".into(),
        after_credit: false,
    });
    let row = row.await;
    assert_eq!((row.status.as_str(), row.errcode), ("dead", Some(47003)));
    assert!(row.errmsg.unwrap().starts_with("data"));
}

/// What answers for WeChat is a proxy's page: nothing is wrong with the network, and one row is enough to say so.
#[tokio::test]
async fn a_token_answer_that_cannot_be_read_is_told_as_what_it_is() {
    for (body, what) in [
        ("<html>please log in</html>", "HTTP status 200 with an HTML"),
        ("", "HTTP status 200 with an empty body"),
    ] {
        let scene = Scene::new().await;
        let page = Action::Body {
            status: 200,
            body: body.into(),
            after_credit: false,
        };
        scene.wechat.script(Rule::token(page));
        let alone = scene.insert("oAlone", json!({})).await;
        let worker = scene.spawn(&[]);
        worker
            .until_logged(&format!("Rows of {APP} are not sent: no access token"))
            .await;
        assert!(worker.log().contains(what));
        let row = scene.until(alone, "paused").await;
        assert!(row.errmsg.unwrap().contains(what));

        scene.insert_many("oUser", 30, json!({})).await;
        let reason = scene.until_paused(APP).await;
        assert!(reason.contains(what), "{reason}");
        assert!(!reason.contains("no connection"), "{reason}");
        assert!(!worker.log().contains("no connection"));
    }
}

#[tokio::test]
async fn when_nobody_answers_nothing_is_in_doubt_and_all_is_sent_on_return() {
    let scene = Scene::new().await;
    let address = scene.fake.address();
    let Scene { fake, database, .. } = scene;
    fake.stop().await;
    let away = Scene {
        wechat: FakeWechat::start(SimulateOptions::default())
            .await
            .unwrap()
            .control(),
        fake: FakeWechat::start(SimulateOptions::default()).await.unwrap(),
        database,
    };
    let base = format!("http://{address}");
    let ids = away.insert_many("oUser", 30, json!({})).await;
    let _worker = away.start(&[("WXNOTIFY_API_BASE", &base)]);
    let reason = away.until_paused(APP).await;
    assert!(reason.contains("cannot be reached"), "{reason}");
    away.until_all(&ids, "paused").await;
    let harmed = "select count(*) from pending_notifications where attempts > 0 or in_doubt_since is not null";
    assert_eq!(away.count(harmed).await, 0);
    assert_eq!(
        away.count("select count(*) from notification_history")
            .await,
        0
    );

    let back = FakeWechat::start(SimulateOptions {
        listen: address,
        ..SimulateOptions::default()
    });
    let back = back.await.unwrap();
    eventually("all are sent after the return", async || {
        away.lapse_pauses().await;
        (away.count_with_status(&ids, "sent").await == ids.len()).then_some(())
    })
    .await;
    assert_eq!(back.control().counts().sends_arrived, 30);
}

#[tokio::test]
async fn a_gateway_that_fails_fast_puts_few_rows_in_doubt_and_the_rest_is_sent_afterwards() {
    const CONCURRENCY: usize = 8;
    let scene = Scene::new().await;
    scene.wechat.script(Rule::send(Action::http_status(502)));
    let ids = scene.insert_many("oUser", 500, json!({})).await;
    let _worker = scene.start(&[]);
    let reason = scene.until_paused(APP).await;
    assert!(reason.contains("circuit breaker"), "{reason}");
    scene.until_no_lease().await;
    let doubts = scene.count_with_status(&ids, "in_doubt").await;
    assert!((1..=2 * CONCURRENCY).contains(&doubts), "{doubts} in doubt");
    assert_eq!(scene.sends(), doubts as u64);
    assert_eq!(
        scene
            .count("select count(*) from notification_history")
            .await,
        0
    );

    // The probe fails once more: one more doubt, no more.
    scene.lapse_pauses().await;
    scene.until_sends(doubts as u64 + 1).await;
    scene.until_paused(APP).await;
    scene.until_no_lease().await;
    assert_eq!(scene.count_with_status(&ids, "in_doubt").await, doubts + 1);

    scene.wechat.clear_scripts();
    let waiting = format!(
        "update pending_notifications set due = clock_timestamp() where in_doubt_since is null;
         update wechat_apps set paused_until = clock_timestamp() where appid = '{APP}'"
    );
    eventually("all but the doubts are sent", async || {
        scene.as_worker(&waiting).await;
        (scene.count_with_status(&ids, "sent").await == ids.len() - doubts - 1).then_some(())
    })
    .await;
    assert_eq!(
        scene.wechat.counts().sends_accepted as usize,
        500 - doubts - 1
    );
}

/// One mini-program's gateway is another's fault only if they share it; the pause is per mini-program.
#[tokio::test]
async fn an_outage_of_one_mini_program_leaves_the_others_alone() {
    const OTHER: &str = "wx5555666677778888";
    let scene = Scene::new().await;
    scene.register(OTHER).await;
    let outage = Rule::send(Action::http_status(503)).appid(APP);
    scene.wechat.script(outage);
    scene.insert_many("oUser", 50, json!({})).await;
    let others = json!({ "appid": OTHER });
    let others = scene.insert_many("oOther", 50, others).await;
    let _worker = scene.start(&[("WXNOTIFY_APPSECRET_wx5555666677778888", SECRET)]);
    scene.until_paused(APP).await;
    scene.until_all(&others, "sent").await;
}
