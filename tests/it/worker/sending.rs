//! Rows that go out: when, in which order, at which pace.

use std::collections::HashMap;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use wxnotify::simulate::{Action, Rule};

use super::{APP, SECRET, Scene, insert};
use crate::harness::eventually;
use crate::kernel::run;

const OTHER_APP: &str = "wx5555666677778888";
const OTHER_SECRET: &str = "WXNOTIFY_APPSECRET_wx5555666677778888";

/// The openids in the order in which their sends arrived.
fn order(scene: &Scene) -> Vec<String> {
    let ledger = scene.ledger();
    ledger.sends().map(|call| call.openid.clone()).collect()
}

#[tokio::test]
async fn the_view_tells_each_step_of_a_row() {
    let scene = Scene::new().await;
    scene.wechat.hold();
    let id = scene.insert("oUser", json!({})).await;
    assert_eq!(scene.status(id).await, "due");

    let _worker = scene.start(&[]);
    scene.until_sends(1).await;
    let row = scene.seen(id).await;
    assert_eq!(row.status, "sending");
    assert!(row.worker.unwrap().starts_with("tester#"));

    scene.wechat.release();
    let row = scene.until(id, "sent").await;
    assert_eq!(row.attempts, 1);
    assert_eq!(row.settled_by.as_deref(), Some("reply"));
    assert_eq!(row.may_be_doubled, Some(false));
    let ledger = scene.ledger();
    assert_eq!(row.msgid, ledger.sends().next().unwrap().msgid);
    assert_eq!(ledger.counts.sends_arrived, 1);
}

/// The worker polls once a minute here, so only the bell can wake it in time.
#[tokio::test]
async fn an_insert_wakes_a_sleeping_worker() {
    let scene = Scene::new().await;
    let _worker = scene.start(&[("WXNOTIFY_POLL_SECS", "60")]);
    for round in 1..=3 {
        eventually("the bell is armed", async || {
            let armed = "select (last_value > extract(epoch from clock_timestamp()))::int::bigint from notification_bell";
            (scene.count(armed).await == 1).then_some(())
        })
        .await;
        let id = scene.insert("oUser", json!({})).await;
        scene.until_sends(round).await;
        scene.until(id, "sent").await;
    }
}

/// A transaction that has sent a NOTIFY cannot be prepared, and a sleeping worker asks for one.
#[tokio::test]
async fn a_producer_that_commits_in_two_phases_turns_the_bell_off_and_is_found_by_polling() {
    let scene = Scene::new().await;
    let allowed = "select current_setting('max_prepared_transactions')::bigint";
    if scene.count(allowed).await == 0 {
        println!("skipped: the server has max_prepared_transactions = 0");
        return;
    }
    let _worker = scene.start(&[]);
    eventually("the bell is armed", async || {
        let armed = "select (last_value > extract(epoch from clock_timestamp()))::int::bigint from notification_bell";
        (scene.count(armed).await == 1).then_some(())
    })
    .await;

    let mut producer = scene.database.connect().await;
    let gid = format!("two-phase-{}", std::process::id());
    run(&mut producer, "set wxnotify.bell = 'off'").await;
    run(&mut producer, "begin").await;
    let id = insert(&mut producer, "oUser", json!({})).await;
    run(&mut producer, &format!("prepare transaction '{gid}'")).await;
    // The worker is past this row's time when it becomes visible.
    let other = scene.insert("oOther", json!({})).await;
    scene.until(other, "sent").await;
    assert_eq!(scene.sends_to("oUser"), 0);
    run(&mut producer, &format!("commit prepared '{gid}'")).await;
    scene.until(id, "sent").await;
    assert_eq!(scene.sends_to("oUser"), 1);
}

#[tokio::test]
async fn a_row_is_seen_when_its_slow_transaction_commits() {
    let scene = Scene::new().await;
    let mut slow = scene.pool().begin().await.unwrap();
    let late = insert(&mut *slow, "oSlow", json!({})).await;
    let _worker = scene.start(&[]);
    for number in 0..5 {
        let id = scene.insert(&format!("oQuick{number}"), json!({})).await;
        scene.until(id, "sent").await;
    }
    assert_eq!(scene.sends_to("oSlow"), 0);
    slow.commit().await.unwrap();
    scene.until(late, "sent").await;
    assert_eq!(scene.sends_to("oSlow"), 1);
}

#[tokio::test]
async fn a_scheduled_row_is_sent_at_its_time_and_not_before() {
    let scene = Scene::new().await;
    let _worker = scene.start(&[("WXNOTIFY_POLL_SECS", "60")]);
    let send_at = Utc::now() + TimeDelta::seconds(2);
    let id = scene.insert("oUser", json!({ "send_at": send_at })).await;
    let far = Utc::now() + TimeDelta::hours(1);
    let tomorrow = scene.insert("oOther", json!({ "send_at": far })).await;
    assert_eq!(scene.status(id).await, "scheduled");

    scene.until(id, "sent").await;
    let ledger = scene.ledger();
    let arrived_at = ledger.sends().next().unwrap().arrived_at;
    assert!(arrived_at >= send_at, "{arrived_at} is before {send_at}");
    assert_eq!(scene.status(tomorrow).await, "scheduled");
    assert_eq!(scene.sends(), 1);
}

#[tokio::test]
async fn a_held_row_is_sent_only_when_armed() {
    let scene = Scene::new().await;
    let held = scene
        .insert("oUser", json!({ "held": true, "data": {} }))
        .await;
    let _worker = scene.start(&[]);
    let other = scene.insert("oUser", json!({})).await;
    scene.until(other, "sent").await;
    assert_eq!(scene.status(held).await, "held");

    let armed: Option<i64> =
        sqlx::query_scalar("select arm($1, 'oUser', 'template-one', '{\"thing1\": \"armed\"}')")
            .bind(APP)
            .fetch_one(scene.pool())
            .await
            .unwrap();
    assert_eq!(armed, Some(held));
    scene.until(held, "sent").await;
    let values: Vec<_> = scene.ledger().sends().map(|c| c.value("thing1")).collect();
    assert_eq!(values, [Some("杯".to_owned()), Some("armed".to_owned())]);
}

#[tokio::test]
async fn urgent_rows_overtake_bulk_that_was_there_before() {
    let scene = Scene::new().await;
    let bulk = scene.insert_many("oBulk", 60, json!({ "lane": 2 })).await;
    scene
        .wechat
        .set_latency(std::time::Duration::from_millis(300));
    scene.wechat.hold();
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "2")]);
    scene.until_sends(2).await;
    // No answer comes meanwhile, or a slow insert would have been overtaken itself.
    let urgent = scene.insert("oUrgent", json!({ "lane": 0 })).await;
    scene.wechat.release();
    scene.until(urgent, "sent").await;
    scene.wechat.set_latency(std::time::Duration::ZERO);
    scene.until_all(&bulk, "sent").await;
    let place = order(&scene).iter().position(|openid| openid == "oUrgent");
    assert!(place.unwrap() < 40, "{place:?}");
}

#[tokio::test]
async fn bulk_gets_its_share_beside_endless_urgent_rows() {
    let scene = Scene::new().await;
    let bulk = scene.insert_many("oBulk", 10, json!({ "lane": 2 })).await;
    let urgent = scene
        .insert_many("oUrgent", 400, json!({ "lane": 0 }))
        .await;
    scene
        .wechat
        .set_latency(std::time::Duration::from_millis(20));
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "4")]);
    scene.until_all(&bulk, "sent").await;
    scene.until_all(&urgent, "sent").await;
    let order = order(&scene);
    let last_urgent = order.iter().rposition(|o| o.starts_with("oUrgent"));
    let between = order[..last_urgent.unwrap()]
        .iter()
        .filter(|openid| openid.starts_with("oBulk"))
        .count();
    assert!(between >= 4, "{between} bulk rows before the last urgent");
    let first = order.iter().position(|openid| openid.starts_with("oBulk"));
    assert!(first.unwrap() >= 8, "urgent rows go first: {first:?}");
}

#[tokio::test]
async fn a_small_mini_program_does_not_wait_behind_a_big_one() {
    let scene = Scene::new().await;
    scene.register(OTHER_APP).await;
    let big = scene.insert_many("oBig", 300, json!({})).await;
    let small = scene
        .insert_many("oSmall", 20, json!({ "appid": OTHER_APP }))
        .await;
    scene
        .wechat
        .set_latency(std::time::Duration::from_millis(10));
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "4"), (OTHER_SECRET, SECRET)]);
    scene.until_all(&small, "sent").await;
    scene.until_all(&big, "sent").await;
    let last = order(&scene).iter().rposition(|o| o.starts_with("oSmall"));
    assert!(last.unwrap() < 150, "{last:?}");
}

/// Twenty slots, two lanes, five users: without the rule most calls would get 43108.
#[tokio::test]
async fn one_users_rows_go_out_one_at_a_time_and_in_order() {
    let scene = Scene::new().await;
    scene
        .wechat
        .set_latency(std::time::Duration::from_millis(5));
    let mut ids = Vec::new();
    for turn in 0..5 {
        for user in 0..5 {
            let row = json!({ "lane": user % 2, "data": { "thing1": turn.to_string() } });
            ids.push(scene.insert(&format!("oUser{user}"), row).await);
        }
    }
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "20")]);
    scene.until_all(&ids, "sent").await;
    let ledger = scene.ledger();
    assert!(ledger.sends().all(|call| !call.concurrent));
    assert_eq!(ledger.counts.errcodes.get(&43108), None);
    let mut turns: HashMap<&str, Vec<String>> = HashMap::new();
    for call in ledger.sends() {
        let turn = call.value("thing1").unwrap();
        turns.entry(&call.openid).or_default().push(turn);
    }
    for (user, turns) in turns {
        assert_eq!(turns, ["0", "1", "2", "3", "4"], "{user}");
    }
}

#[tokio::test]
async fn a_mini_programs_rate_holds_across_two_workers() {
    const ROWS: i32 = 60;
    const RATE: f64 = 20.0;
    let scene = Scene::new().await;
    scene
        .as_worker("update wechat_apps set rate_per_second = 20")
        .await;
    let ids = scene.insert_many("oUser", ROWS, json!({})).await;
    let _one = scene.start(&[("WXNOTIFY_WORKER", "one")]);
    let _two = scene.start(&[("WXNOTIFY_WORKER", "two")]);
    scene.until_all(&ids, "sent").await;
    let ledger = scene.ledger();
    let arrivals: Vec<_> = ledger.sends().map(|call| call.arrived_at).collect();
    let span = (arrivals[arrivals.len() - 1] - arrivals[0]).as_seconds_f64();
    // A full bucket and a slice that was granted but not used yet may come on top.
    let shortest = (f64::from(ROWS) - 1.0 - RATE) / RATE * 0.8;
    assert!(span >= shortest, "{ROWS} rows within {span} s");
    assert!(span <= f64::from(ROWS) / RATE * 4.0, "{span} s");
}

#[tokio::test]
async fn until_empty_ends_when_nothing_is_due_and_leaves_the_rest() {
    let scene = Scene::new().await;
    let due = scene.insert_many("oUser", 30, json!({})).await;
    let far = Utc::now() + TimeDelta::hours(1);
    let later = scene.insert("oLater", json!({ "send_at": far })).await;
    scene.run_until_empty(&[]).await;
    assert_eq!(scene.count_with_status(&due, "sent").await, 30);
    assert_eq!(scene.status(later).await, "scheduled");
    assert_eq!(scene.sends(), 30);
    let leases = scene.count("select count(*) from notification_leases");
    assert_eq!(leases.await, 0);
}

/// Settles of many small batches share a statement; what the database refuses of one must cost the others nothing.
#[tokio::test]
async fn many_mini_programs_settle_together_and_a_text_the_database_refuses_costs_its_own_row_alone()
 {
    let scene = Scene::new().await;
    let appids: Vec<String> = (0..40).map(|n| format!("wx{n:016}")).collect();
    let secrets: Vec<String> = appids
        .iter()
        .map(|appid| format!("WXNOTIFY_APPSECRET_{appid}"))
        .collect();
    let mut rows = Vec::new();
    for appid in &appids {
        scene.register(appid).await;
        rows.extend(scene.insert_many("oUser", 3, json!({"appid": appid})).await);
    }
    let poisoned = scene.insert("oPoison", json!({"appid": appids[7]})).await;
    sqlx::raw_sql(
        "alter table notification_attempts add constraint no_poison check (errmsg <> 'poison')",
    )
    .execute(scene.pool())
    .await
    .unwrap();
    let poison = Action::Body {
        status: 200,
        body: "{\"errcode\":40003,\"errmsg\":\"poison\"}".into(),
        after_credit: false,
    };
    scene.wechat.script(Rule::send(poison).openid("oPoison"));
    let settings: Vec<(&str, &str)> = secrets.iter().map(|name| (name.as_str(), SECRET)).collect();
    scene.run_until_empty(&settings).await;
    scene.until_all(&rows, "sent").await;
    let seen = scene.seen(poisoned).await;
    assert_eq!((seen.status.as_str(), seen.errcode), ("dead", Some(40003)));
    assert_eq!(scene.sends(), 121);
}
