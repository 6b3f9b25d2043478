//! Rows that name a login code instead of an openid: exchanged once, at once, and never shown.

use chrono::{TimeDelta, Utc};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use wxnotify::simulate::{Action, AppSpec, LOGIN_PATH, Rule};
use wxnotify::worker::RunEnd;

use super::{APP, HASTY, SECRET, Scene, Seen, TEMPLATE};
use crate::harness::{eventually, in_time};

impl Scene {
    /// A row for whoever is behind the code.
    async fn insert_login(&self, code: &str, mut columns: Value) -> i64 {
        columns["openid"] = Value::Null;
        columns["login_code"] = code.into();
        self.insert("", columns).await
    }

    fn exchanges(&self) -> usize {
        let ledger = self.ledger();
        let calls = ledger.calls.iter();
        calls.filter(|call| call.path == LOGIN_PATH).count()
    }

    async fn until_exchanges(&self, count: usize) {
        eventually(&format!("{count} exchanges arrive"), async || {
            (self.exchanges() >= count).then_some(())
        })
        .await;
    }

    /// Makes the next exchange of a code due now.
    async fn hasten_logins(&self) {
        self.as_worker("update pending_notifications set login_at = clock_timestamp() where login_code is not null")
            .await;
    }

    /// Waits until the row has its receiver.
    async fn until_receiver(&self, id: i64) -> String {
        eventually("the row has its receiver", async || {
            sqlx::query_scalar::<_, Option<String>>(
                "select openid from notifications where id = $1",
            )
            .bind(id)
            .fetch_one(self.pool())
            .await
            .unwrap()
        })
        .await
    }

    async fn explained(&self, id: i64) -> (String, String) {
        sqlx::query_as("select sentence, what_next from explain_notification($1)")
            .bind(id)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }
}

fn exchange(action: Action) -> Rule {
    Rule::new(action).path(LOGIN_PATH)
}

#[tokio::test]
async fn a_code_is_exchanged_at_once_although_the_message_is_for_tomorrow() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    let send_at = Utc::now() + TimeDelta::days(1);
    let id = scene
        .insert_login(&code, json!({ "send_at": send_at }))
        .await;
    let row = scene.seen(id).await;
    assert_eq!(row.status, "scheduled");
    assert!(row.reason.unwrap().contains("login code"));
    let _worker = scene.start(&[]);
    assert_eq!(scene.until_receiver(id).await, "oUser");
    assert_eq!(scene.status(id).await, "scheduled");
    assert_eq!((scene.exchanges(), scene.sends()), (1, 0));
    let left = scene.count("select count(login_code) + count(login_at) + count(login_until) from pending_notifications");
    assert_eq!(left.await, 0);

    scene.hasten().await;
    scene.until(id, "sent").await;
    assert_eq!(scene.accepted_for("oUser"), 1);
}

#[tokio::test]
async fn a_row_waits_for_its_receiver_as_due() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    let id = scene.insert_login(&code, json!({})).await;
    let row = scene.seen(id).await;
    assert_eq!(row.status, "due");
    assert_eq!(
        row.reason.as_deref(),
        Some("its login code is exchanged for the openid")
    );
    let (sentence, what_next) = scene.explained(id).await;
    assert!(sentence.contains("login code is exchanged"), "{sentence}");
    assert!(what_next.contains("No live worker"), "{what_next}");
    let backlog = "select sum(rows)::bigint from notification_backlog where status = 'due'";
    assert_eq!(scene.count(backlog).await, 1);
}

#[tokio::test]
async fn a_worker_that_ends_when_nothing_is_due_exchanges_first() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    let id = scene.insert_login(&code, json!({})).await;
    assert_eq!(scene.run_until_empty(&[]).await, RunEnd::Drained);
    assert_eq!(scene.status(id).await, "sent");
}

#[tokio::test]
async fn a_held_row_learns_its_receiver_and_is_armed_by_it() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    let id = scene
        .insert_login(&code, json!({ "held": true, "data": {} }))
        .await;
    assert_eq!(scene.status(id).await, "held");
    let _worker = scene.start(&[]);
    scene.until_receiver(id).await;
    assert_eq!(scene.status(id).await, "held");
    let armed: Option<i64> =
        sqlx::query_scalar("select arm($1, 'oUser', $2, '{\"thing1\": \"杯\"}')")
            .bind(APP)
            .bind(TEMPLATE)
            .fetch_one(scene.pool())
            .await
            .unwrap();
    assert_eq!(armed, Some(id));
    scene.until(id, "sent").await;
}

#[tokio::test]
async fn a_row_armed_before_its_receiver_is_known_is_sent_after() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    let id = scene.insert_login(&code, json!({ "held": true })).await;
    sqlx::query("update pending_notifications set held = false where id = $1")
        .bind(id)
        .execute(scene.pool())
        .await
        .unwrap();
    assert_eq!(scene.status(id).await, "due");
    let _worker = scene.start(&[]);
    scene.until(id, "sent").await;
}

#[tokio::test]
async fn of_rows_with_one_dedup_key_one_is_sent_whoever_is_known_first() {
    let scene = Scene::new().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let code = scene
            .wechat
            .issue_login_code(APP, &format!("oUser{number}"));
        ids.push(
            scene
                .insert_login(&code, json!({ "dedup_key": "one" }))
                .await,
        );
    }
    let _worker = scene.start(&[]);
    eventually("one is sent, two are duplicates", async || {
        let sent = scene.count_with_status(&ids, "sent").await;
        let duplicates = scene.count_with_status(&ids, "duplicate").await;
        ((sent, duplicates) == (1, 2)).then_some(())
    })
    .await;
    assert_eq!(scene.sends(), 1);
}

#[tokio::test]
async fn a_row_that_expires_without_its_receiver_ends_expired() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene.wechat.script(exchange(Action::hang_before_credit()));
    let expire_at = Utc::now() + TimeDelta::seconds(1);
    let id = scene
        .insert_login(&code, json!({ "expire_at": expire_at }))
        .await;
    let _worker = scene.start(&[]);
    scene.until(id, "expired").await;
    assert_eq!(scene.sends(), 0);
}

#[tokio::test]
async fn a_row_can_be_cancelled_while_its_code_is_exchanged() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene
        .wechat
        .script(exchange(Action::delay(std::time::Duration::from_millis(
            300,
        ))));
    let id = scene.insert_login(&code, json!({})).await;
    let worker = scene.start(&[]);
    scene.until_exchanges(1).await;
    let deleted = sqlx::query("delete from pending_notifications where id = $1").bind(id);
    assert_eq!(
        deleted.execute(scene.pool()).await.unwrap().rows_affected(),
        1
    );
    assert_eq!(scene.status(id).await, "cancelled");
    worker.stop().await;
    assert_eq!(scene.status(id).await, "cancelled");
    assert_eq!((scene.exchanges(), scene.sends()), (1, 0));
}

#[tokio::test]
async fn the_code_of_a_row_cannot_be_changed() {
    let scene = Scene::new().await;
    let id = scene.insert_login("0aCode", json!({})).await;
    for change in [
        "login_code = 'other'",
        "login_code = null, openid = 'oUser'",
    ] {
        let change = format!("update pending_notifications set {change} where id = {id}");
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(scene.pool());
        let error = error.await.unwrap_err().to_string();
        assert!(error.contains("cannot change"), "{error}");
        assert!(!error.contains("0aCode"), "{error}");
    }
}

#[tokio::test]
async fn a_code_that_wechat_does_not_know_ends_its_row_with_the_reason() {
    let scene = Scene::new().await;
    let id = scene.insert_login("0aNobodysCode", json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "dead").await;
    assert_eq!((row.errcode, row.attempts), (Some(40029), 0));
    assert_eq!(row.credit.as_deref(), Some("kept"));
    assert!(
        row.reason
            .unwrap()
            .contains("login code is invalid or expired")
    );
    let (sentence, what_next) = scene.explained(id).await;
    assert!(sentence.contains("40029"), "{sentence}");
    assert!(what_next.contains("wx.login"), "{what_next}");
    let attempts: i64 = scene
        .count("select count(*) from notification_attempts where errcode = 40029")
        .await;
    assert_eq!(attempts, 1);
    let redriven: String =
        sqlx::query_scalar("select result from redrive_notifications(array[$1])")
            .bind(id)
            .fetch_one(scene.pool())
            .await
            .unwrap();
    assert!(redriven.contains("no receiver"), "{redriven}");
}

#[tokio::test]
async fn a_code_given_to_two_rows_serves_one() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    let ids = [
        scene.insert_login(&code, json!({})).await,
        scene.insert_login(&code, json!({})).await,
    ];
    let _worker = scene.start(&[]);
    scene.until_statuses(&ids, ["dead", "sent"]).await;
    let dead: Vec<Seen> = [scene.seen(ids[0]).await, scene.seen(ids[1]).await]
        .into_iter()
        .filter(|row| row.status == "dead")
        .collect();
    assert_eq!(dead[0].errcode, Some(40163));
}

#[tokio::test]
async fn a_code_of_a_risky_user_is_dead() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene.wechat.block_login(APP, "oUser", true);
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&[]);
    assert_eq!(scene.until(id, "dead").await.errcode, Some(40226));
    assert_eq!(scene.exchanges(), 1);
}

#[tokio::test]
async fn a_busy_wechat_is_asked_again() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene.wechat.script(exchange(Action::errcode(-1)).once());
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "sent").await;
    assert_eq!((row.attempts, scene.exchanges()), (1, 2));
}

#[tokio::test]
async fn a_busy_answer_that_used_the_code_is_told_as_such() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene
        .wechat
        .script(exchange(Action::errcode_after_credit(-1)).once());
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "dead").await;
    assert!(row.reason.unwrap().contains("answered with -1"));
}

#[tokio::test]
async fn too_many_exchanges_of_a_user_wait_for_the_next_minute_and_stop_nobody_else() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene.wechat.script(exchange(Action::errcode(45011)).once());
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&[]);
    eventually("the refusal is recorded", async || {
        (scene.seen(id).await.errcode == Some(45011)).then_some(())
    })
    .await;
    let other = scene.insert("oOther", json!({})).await;
    scene.until(other, "sent").await;
    assert_eq!(
        (scene.exchanges(), scene.status(id).await.as_str()),
        (1, "due")
    );
    scene.hasten_logins().await;
    scene.until(id, "sent").await;
}

#[tokio::test]
async fn a_wrong_secret_pauses_the_mini_program_and_the_code_outlives_it() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene.wechat.add_app(AppSpec::new(APP, "another-secret"));
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&[]);
    let reason = scene.until_paused(APP).await;
    assert!(reason.contains("login code"), "{reason}");
    assert_eq!(scene.until(id, "paused").await.errcode, Some(40125));
    scene.wechat.add_app(AppSpec::new(APP, SECRET));
    scene.lapse_pauses().await;
    scene.hasten_logins().await;
    scene.until(id, "sent").await;
}

#[tokio::test]
async fn a_lost_answer_that_used_the_code_ends_its_row_honestly() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene
        .wechat
        .script(exchange(Action::hang_after_credit()).once());
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "dead").await;
    assert_eq!(
        row.reason.as_deref(),
        Some("the login code was used up by an exchange whose answer was lost")
    );
    assert_eq!(scene.exchanges(), 2);
}

#[tokio::test]
async fn a_lost_request_leaves_the_code_for_the_second_try() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene
        .wechat
        .script(exchange(Action::reset_before_credit()).once());
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&[]);
    scene.until(id, "sent").await;
    assert_eq!(scene.exchanges(), 2);
}

#[tokio::test]
async fn after_two_lost_answers_the_code_is_given_up_without_a_third_call() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene.wechat.script(exchange(Action::http_status(502)));
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "dead").await;
    assert!(row.reason.unwrap().contains("twice"));
    assert_eq!(scene.exchanges(), 2);
}

#[tokio::test]
async fn a_code_that_never_left_is_tried_until_it_can() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    let id = scene.insert_login(&code, json!({})).await;
    let nowhere = [("WXNOTIFY_API_BASE", "http://127.0.0.1:9")];
    let cut_off = scene.start(&nowhere);
    eventually("three tries found no way", async || {
        let tries = "select count(*) from notification_attempts where result = 'retry'";
        (scene.count(tries).await >= 3).then_some(())
    })
    .await;
    cut_off.stop().await;
    let unclear = "select sum(login_unclear)::bigint from pending_notifications";
    assert_eq!(scene.count(unclear).await, 0);
    let _worker = scene.start(&[]);
    scene.until(id, "sent").await;
}

#[tokio::test]
async fn a_code_past_its_five_minutes_is_dead_without_a_call() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    let id = scene.insert_login(&code, json!({})).await;
    scene
        .as_worker("update pending_notifications set login_at = login_at - interval '5 minutes', login_until = login_until - interval '5 minutes'")
        .await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "dead").await;
    assert_eq!(
        row.reason.as_deref(),
        Some("the login code was not exchanged within its 5 minutes")
    );
    assert_eq!(scene.exchanges(), 0);
}

/// Nobody serves the mini-program, so nobody would ever look at its rows.
#[tokio::test]
async fn codes_of_a_mini_program_without_a_worker_end_too() {
    let scene = Scene::new().await;
    let row = json!({ "appid": "wxNobodys" });
    let id = scene.insert_login("0aCode", row).await;
    assert_eq!(scene.status(id).await, "paused");
    scene
        .as_worker("update pending_notifications set login_at = login_at - interval '5 minutes', login_until = login_until - interval '5 minutes'")
        .await;
    let _worker = scene.start(&[]);
    scene.until(id, "dead").await;
}

#[tokio::test]
async fn two_workers_exchange_each_code_once() {
    let scene = Scene::new().await;
    let mut ids = Vec::new();
    let mut producer = scene.pool().begin().await.unwrap();
    for number in 0..40 {
        let code = scene
            .wechat
            .issue_login_code(APP, &format!("oUser{number}"));
        let row = json!({ "openid": null, "login_code": code });
        ids.push(super::insert(&mut *producer, "", row).await);
    }
    let _first = scene.start(&[("WXNOTIFY_WORKER", "first")]);
    let _second = scene.start(&[("WXNOTIFY_WORKER", "second")]);
    producer.commit().await.unwrap();
    scene.until_all(&ids, "sent").await;
    assert_eq!((scene.exchanges(), scene.sends()), (40, 40));
}

#[tokio::test]
async fn what_a_killed_worker_had_claimed_is_tried_once_more() {
    let scene = Scene::new().await;
    let used = scene.wechat.issue_login_code(APP, "oUsed");
    let unused = scene.wechat.issue_login_code(APP, "oUnused");
    scene
        .wechat
        .script(exchange(Action::hang_after_credit()).once());
    let used = scene.insert_login(&used, json!({})).await;
    let mut killed = scene.spawn(&[]);
    scene.until_exchanges(1).await;
    killed.kill().await;
    // Claimed by it, too, and never sent.
    let unused = scene.insert_login(&unused, json!({})).await;
    scene
        .as_worker("update pending_notifications set login_claims = 1, login_unclear = 1, login_at = clock_timestamp()")
        .await;
    let _worker = scene.start(&[]);
    scene.until(unused, "sent").await;
    let row = scene.until(used, "dead").await;
    assert!(row.reason.unwrap().contains("answer was lost"));
}

/// A producer's transaction holds the row while the answer comes: the openid must not get lost.
#[tokio::test]
async fn an_openid_waits_until_its_row_can_be_had() {
    let scene = Scene::new().await;
    let code = scene.wechat.issue_login_code(APP, "oUser");
    scene
        .wechat
        .script(exchange(Action::delay(std::time::Duration::from_millis(
            300,
        ))));
    let id = scene.insert_login(&code, json!({})).await;
    let _worker = scene.start(&[]);
    scene.until_exchanges(1).await;
    let mut producer = scene.pool().begin().await.unwrap();
    let locked = sqlx::query("select from pending_notifications where id = $1 for update").bind(id);
    locked.execute(&mut *producer).await.unwrap();
    let other = scene.insert("oOther", json!({})).await;
    scene.until(other, "sent").await;
    assert_eq!(scene.status(id).await, "due");
    producer.rollback().await.unwrap();
    scene.until(id, "sent").await;
    assert_eq!(scene.exchanges(), 1);
}

#[tokio::test]
async fn no_code_and_no_session_key_is_shown_or_kept() {
    let scene = Scene::new().await;
    let mut codes = Vec::new();
    let mut ids = Vec::new();
    for openid in ["oSent", "oRisky", "oLost"] {
        let code = scene.wechat.issue_login_code(APP, openid);
        ids.push(scene.insert_login(&code, json!({})).await);
        codes.push(code);
    }
    scene.wechat.block_login(APP, "oRisky", true);
    let telling = Action::Errcode {
        errcode: 40029,
        errmsg: Some("invalid code 0aTelltaleCode".to_owned()),
        after_credit: false,
    };
    scene
        .wechat
        .script(exchange(Action::HalfJson { after_credit: true }).once());
    let mut worker = scene.spawn(&[("WXNOTIFY_LOG", "trace")]);
    eventually("all have ended", async || {
        let left = scene
            .count("select count(*) from pending_notifications")
            .await;
        (left == 0).then_some(())
    })
    .await;
    scene.wechat.script(exchange(telling));
    let told = scene.insert_login("0aTelltaleCode", json!({})).await;
    scene.until(told, "dead").await;
    worker.signal(Signal::SIGTERM);
    in_time("the worker ends", worker.end()).await;
    codes.push("0aTelltaleCode".to_owned());
    codes.push("SESSIONKEY".to_owned());
    codes.push("oUNIONID".to_owned());

    let kept: String = sqlx::query_scalar(
        "select concat_ws(E'\\n', (select string_agg(h::text, '') from notification_history h),
            (select string_agg(a::text, '') from notification_attempts a), (select string_agg(e::text, '') from wechat_apps e),
            (select string_agg(x::text, '') from notification_history h cross join lateral explain_notification(h.id) x))",
    )
    .fetch_one(scene.pool())
    .await
    .unwrap();
    let log = worker.log();
    assert!(
        log.contains("login code ended"),
        "it logs nothing of exchanges"
    );
    for secret in codes {
        assert!(!log.contains(&secret), "the log shows {secret}");
        assert!(!kept.contains(&secret), "the database keeps {secret}");
    }
}

impl Scene {
    /// Waits until the rows have these statuses, in any order.
    async fn until_statuses<const N: usize>(&self, ids: &[i64], mut statuses: [&str; N]) {
        statuses.sort_unstable();
        eventually(&format!("the rows are {statuses:?}"), async || {
            let mut found = Vec::new();
            for id in ids {
                found.push(self.status(*id).await);
            }
            found.sort_unstable();
            (found == statuses).then_some(())
        })
        .await;
    }
}
