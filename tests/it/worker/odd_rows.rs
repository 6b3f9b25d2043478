//! Rows that cannot simply be sent.

use chrono::{TimeDelta, Utc};
use serde_json::json;
use wxnotify::simulate::{Action, Rule};

use super::{SECRET, Scene};
use crate::harness::eventually;

const UNKNOWN_APP: &str = "wx9999888877776666";
const UNKNOWN_SECRET: &str = "WXNOTIFY_APPSECRET_wx9999888877776666";

#[tokio::test]
async fn a_row_that_expires_while_it_waits_for_a_slot_is_not_sent_late() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let first = scene.insert("oFirst", json!({})).await;
    let expire_at = Utc::now() + TimeDelta::seconds(3);
    let row = json!({ "expire_at": expire_at });
    let second = scene.insert("oSecond", row).await;
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "1")]);
    scene.until_sends(1).await;
    eventually("the second row is leased", async || {
        scene.rows_under_way().await.contains(&second).then_some(())
    })
    .await;
    eventually("its time has passed", async || {
        (Utc::now() > expire_at).then_some(())
    })
    .await;
    scene.wechat.release();
    scene.until(first, "sent").await;
    let row = scene.until(second, "expired").await;
    assert_eq!(row.attempts, 0);
    assert_eq!(scene.sends(), 1);
}

#[tokio::test]
async fn rows_that_expire_held_paused_or_waiting_to_retry_end_expired() {
    let scene = Scene::new().await;
    scene.register(UNKNOWN_APP).await;
    scene
        .as_worker("update wechat_apps set paused_until = 'infinity', pause_reason = 'test' where appid = 'wx9999888877776666'")
        .await;
    scene
        .wechat
        .script(Rule::send(Action::errcode(-1)).openid("oRetry"));
    let expire_at = Utc::now() + TimeDelta::seconds(3);
    let held = json!({ "expire_at": expire_at, "held": true });
    let held = scene.insert("oHeld", held).await;
    let paused = json!({ "expire_at": expire_at, "appid": UNKNOWN_APP });
    let paused = scene.insert("oPaused", paused).await;
    let retry = json!({ "expire_at": expire_at, "attempts_max": 100 });
    let retry = scene.insert("oRetry", retry).await;
    let _worker = scene.start(&[(UNKNOWN_SECRET, SECRET)]);
    for id in [held, paused, retry] {
        scene.until(id, "expired").await;
        assert!(Utc::now() >= expire_at);
    }
    let ledger = scene.ledger();
    assert!(ledger.sends().all(|call| call.openid == "oRetry"));
    assert!(ledger.sends().all(|call| call.arrived_at < expire_at));
}

#[tokio::test]
async fn rows_of_an_unknown_mini_program_wait_until_it_is_added() {
    let scene = Scene::new().await;
    let row = json!({ "appid": UNKNOWN_APP });
    let id = scene.insert("oUser", row).await;
    let _worker = scene.start(&[(UNKNOWN_SECRET, SECRET)]);
    let known = scene.insert("oKnown", json!({})).await;
    scene.until(known, "sent").await;
    let row = scene.until(id, "paused").await;
    assert_eq!(row.reason.as_deref(), Some("unknown app"));
    // It may have been parked meanwhile; being added must un-park it.
    eventually("the row is parked", async || {
        let parked = "select count(*) from pending_notifications where waiting_for = 'app'";
        (scene.count(parked).await == 1).then_some(())
    })
    .await;

    let added = crate::harness::wxnotify()
        .args(["app", "add", UNKNOWN_APP])
        .env("DATABASE_URL", scene.database.url())
        .output()
        .unwrap();
    assert!(added.status.success(), "{added:?}");
    scene.until(id, "sent").await;
    assert_eq!(scene.sends(), 2);
}

/// The secret is at another worker: this one must not touch the row, and must go on.
#[tokio::test]
async fn rows_of_a_mini_program_whose_secret_is_elsewhere_are_left_to_others() {
    let scene = Scene::new().await;
    scene.register(UNKNOWN_APP).await;
    let row = json!({ "appid": UNKNOWN_APP });
    let id = scene.insert("oUser", row).await;
    let _without = scene.start(&[("WXNOTIFY_WORKER", "without")]);
    let known = scene.insert("oKnown", json!({})).await;
    scene.until(known, "sent").await;
    assert_eq!(scene.seen(id).await.attempts, 0);
    let _with = scene.start(&[("WXNOTIFY_WORKER", "with"), (UNKNOWN_SECRET, SECRET)]);
    let row = scene.until(id, "sent").await;
    assert!(row.worker.unwrap().starts_with("with#"));
}

/// A newer version may know more kinds than this one.
#[tokio::test]
async fn a_row_of_a_kind_this_version_does_not_know_is_dead_with_the_reason() {
    let scene = Scene::new().await;
    sqlx::raw_sql(
        "alter table pending_notifications drop constraint kind_is_known, disable trigger arrive, disable trigger arrive_kind",
    )
    .execute(scene.pool())
    .await
    .unwrap();
    let before = scene.insert("oBefore", json!({})).await;
    let strange = json!({ "kind": "hologram" });
    let strange = scene.insert("oStrange", strange).await;
    let after = scene.insert("oAfter", json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(strange, "dead").await;
    assert!(row.errmsg.unwrap().contains("hologram"));
    assert_eq!(row.credit.as_deref(), Some("kept"));
    scene.until(before, "sent").await;
    scene.until(after, "sent").await;
    assert_eq!(scene.sends_to("oStrange"), 0);
}

#[tokio::test]
async fn of_two_rows_with_one_key_one_is_sent_and_the_other_points_to_it() {
    let scene = Scene::new().await;
    let keyed = json!({ "dedup_key": "order-1" });
    let one = scene.insert("oUser", keyed.clone()).await;
    let two = scene.insert("oOther", keyed).await;
    let _worker = scene.start(&[]);
    scene.until(one, "sent").await;
    scene.hasten().await;
    scene.until(two, "duplicate").await;
    assert_eq!(scene.sends(), 1);
}

#[tokio::test]
async fn a_row_cancelled_before_it_is_due_is_never_sent() {
    let scene = Scene::new().await;
    let send_at = Utc::now() + TimeDelta::seconds(1);
    let cancelled = json!({ "send_at": send_at });
    let cancelled = scene.insert("oCancelled", cancelled).await;
    let kept = json!({ "send_at": send_at + TimeDelta::milliseconds(100) });
    let kept = scene.insert("oKept", kept).await;
    let _worker = scene.start(&[]);
    sqlx::query("delete from pending_notifications where id = $1")
        .bind(cancelled)
        .execute(scene.pool())
        .await
        .unwrap();
    scene.until(kept, "sent").await;
    assert_eq!(scene.status(cancelled).await, "cancelled");
    assert_eq!(scene.sends(), 1);
}

/// Whoever inserts may name any appid.
#[tokio::test]
async fn a_hundred_made_up_apps_are_one_line_in_the_log() {
    let scene = Scene::new().await;
    let made_up = "insert into pending_notifications (appid, openid, template_id, data) \
                   select 'wx-made-up-' || n, 'oUser', 'T1', '{\"thing1\": \"x\"}' from generate_series(1, 100) n";
    sqlx::query(made_up).execute(scene.pool()).await.unwrap();
    let mut worker = scene.spawn(&[]);
    worker.until_logged("not registered").await;
    worker.signal(nix::sys::signal::Signal::SIGTERM);
    worker.end().await;

    let log = worker.log();
    assert_eq!(log.matches("not registered").count(), 1, "{log}");
    assert!(log.contains("and 95 more"), "{log}");
}
