//! Sends whose reply was lost: what the worker does until it knows, and when it never will.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use wxnotify::simulate::{Action, Rule};

use super::{APP, HASTY, Scene, TEMPLATE};

/// A user with so many credits, whose first message is accepted but never answered.
async fn scene_with_a_lost_reply(credits: u64) -> Scene {
    let scene = Scene::without_credits().await;
    scene.wechat.grant(APP, "oUser", TEMPLATE, credits);
    let lost = Rule::send(Action::hang_after_credit()).openid("oUser");
    scene.wechat.script(lost.once());
    scene
}

/// Settings under which a time-out comes soon and doubts last.
const PATIENT: [(&str, &str); 2] = [
    ("WXNOTIFY_REQUEST_TIMEOUT_SECS", "1"),
    ("WXNOTIFY_CONNECT_TIMEOUT_SECS", "0.5"),
];

#[tokio::test]
async fn a_lost_reply_with_a_second_credit_is_sent_again_and_marked_as_perhaps_doubled() {
    let scene = scene_with_a_lost_reply(2).await;
    let id = scene.insert("oUser", json!({})).await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "sent").await;
    assert_eq!(row.may_be_doubled, Some(true));
    assert!(row.doubted, "{row:?}");
    assert_eq!(row.attempts, 2);
    assert_eq!(scene.accepted_for("oUser"), 2);
}

#[tokio::test]
async fn a_lost_reply_on_the_last_credit_is_presumed_sent() {
    let scene = scene_with_a_lost_reply(1).await;
    let id = scene.insert("oUser", json!({})).await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "presumed_sent").await;
    assert_eq!(row.errcode, Some(43101));
    assert!(row.doubted, "{row:?}");
    assert_eq!((scene.accepted_for("oUser"), scene.sends()), (1, 2));
}

/// With another row of the pair pending, the 43101 may mean that one's credit never existed.
#[tokio::test]
async fn a_43101_proves_nothing_while_the_pair_has_another_row() {
    let scene = scene_with_a_lost_reply(1).await;
    let id = scene.insert("oUser", json!({})).await;
    let second = scene.insert("oUser", json!({ "held": true })).await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "unresolved").await;
    assert_eq!(row.errcode, Some(43101));
    assert_eq!(scene.status(second).await, "held");
}

#[tokio::test]
async fn a_row_on_hold_stays_in_doubt_and_ends_unresolved_at_its_age() {
    let scene = scene_with_a_lost_reply(5).await;
    let hold = json!({ "on_doubt": "hold" });
    let id = scene.insert("oUser", hold).await;
    let _worker = scene.start(&HASTY);
    scene.until(id, "in_doubt").await;
    // Long after the window the row still waits: other rows pass it.
    for number in 0..3 {
        scene.wechat.grant(APP, "oOther", TEMPLATE, 1);
        let send_at = Utc::now() + TimeDelta::milliseconds(300 * number);
        let other = json!({ "send_at": send_at });
        let other = scene.insert("oOther", other).await;
        scene.until(other, "sent").await;
    }
    assert_eq!(scene.status(id).await, "in_doubt");
    assert_eq!(scene.sends_to("oUser"), 1);

    scene
        .as_worker("update pending_notifications set in_doubt_since = in_doubt_since - interval '8 days', due = clock_timestamp()")
        .await;
    let row = scene.until(id, "unresolved").await;
    assert!(row.doubted, "{row:?}");
    assert_eq!(scene.sends_to("oUser"), 1);
}

#[tokio::test]
async fn a_row_on_hold_ends_unresolved_when_it_expires() {
    let scene = scene_with_a_lost_reply(5).await;
    let expire_at = Utc::now() + TimeDelta::seconds(4);
    let hold = json!({ "on_doubt": "hold", "expire_at": expire_at });
    let id = scene.insert("oUser", hold).await;
    let _worker = scene.start(&HASTY);
    scene.until(id, "in_doubt").await;
    scene.until(id, "unresolved").await;
    assert!(Utc::now() >= expire_at);
    assert_eq!(scene.sends(), 1);
}

#[tokio::test]
async fn while_a_row_is_in_doubt_nothing_else_goes_to_its_user_and_template() {
    let scene = scene_with_a_lost_reply(5).await;
    scene.wechat.grant(APP, "oUser", "template-two", 1);
    let doubtful = scene.insert("oUser", json!({})).await;
    let _worker = scene.start(&PATIENT);
    scene.until(doubtful, "in_doubt").await;
    let same_pair = scene.insert("oUser", json!({ "lane": 0 })).await;
    let elsewhere = json!({ "template_id": "template-two" });
    let elsewhere = scene.insert("oUser", elsewhere).await;
    scene.until(elsewhere, "sent").await;
    assert_ne!(scene.status(same_pair).await, "sent");
    assert_eq!(
        scene.ledger().pair(APP, "oUser", TEMPLATE).unwrap().arrived,
        1
    );

    let answer: String = sqlx::query_scalar("select confirm_sent($1)")
        .bind(doubtful)
        .fetch_one(scene.pool())
        .await
        .unwrap();
    assert_eq!(answer, "confirmed sent");
    assert_eq!(scene.status(doubtful).await, "sent");
    scene.hasten().await;
    scene.until(same_pair, "sent").await;
    assert_eq!(
        scene.ledger().pair(APP, "oUser", TEMPLATE).unwrap().arrived,
        2
    );
}

#[tokio::test]
async fn a_doubt_that_an_operator_refutes_is_sent_again() {
    let scene = Scene::new().await;
    let lost = Rule::send(Action::hang_before_credit());
    scene.wechat.script(lost.once());
    let id = scene.insert("oUser", json!({ "on_doubt": "hold" })).await;
    let _worker = scene.start(&PATIENT);
    scene.until(id, "in_doubt").await;
    sqlx::query("select confirm_not_sent($1)")
        .bind(id)
        .execute(scene.pool())
        .await
        .unwrap();
    let row = scene.until(id, "sent").await;
    assert_eq!(row.may_be_doubled, Some(false));
    assert_eq!(scene.accepted_for("oUser"), 1);
}

#[tokio::test]
async fn a_reply_that_comes_after_the_rescue_settles_the_row_without_a_second_send() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let ids = scene.insert_many("oUser", 5, json!({})).await;
    let _worker = scene.start(&[]);
    scene.until_sends(5).await;
    scene.lapse_leases().await;
    let _rescuer = scene.start(&[("WXNOTIFY_WORKER", "rescuer")]);
    scene.until_all(&ids, "in_doubt").await;
    scene.wechat.release();
    scene.until_all(&ids, "sent").await;
    for id in ids {
        let row = scene.seen(id).await;
        assert_eq!(row.settled_by.as_deref(), Some("late_reply"));
        assert!(row.doubted && row.msgid.is_some(), "{row:?}");
    }
    assert_eq!(scene.sends(), 5);
}

#[tokio::test]
async fn a_late_refusal_ends_the_doubt_it_caused() {
    let scene = Scene::without_credits().await;
    scene.wechat.hold();
    let id = scene.insert("oUser", json!({})).await;
    let _worker = scene.start(&[]);
    scene.until_sends(1).await;
    scene.lapse_leases().await;
    let _rescuer = scene.start(&[("WXNOTIFY_WORKER", "rescuer")]);
    scene.until(id, "in_doubt").await;
    scene.wechat.release();
    scene.until(id, "dead").await;
    assert_eq!(scene.sends(), 1);
}

/// Doubt is sticky: that the second try certainly failed says nothing about the first.
#[tokio::test]
async fn a_doubt_outlives_a_later_certain_failure() {
    let scene = scene_with_a_lost_reply(5).await;
    let busy = Rule::send(Action::errcode(-1)).openid("oUser");
    scene.wechat.script(busy);
    let id = scene.insert("oUser", json!({ "attempts_max": 3 })).await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "unresolved").await;
    assert!(row.doubted, "{row:?}");
    assert_eq!(scene.accepted_for("oUser"), 1);
}
