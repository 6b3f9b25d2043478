//! What an event does to the rows: it ends a doubt, completes what was sent, or is no evidence.

use serde_json::{Value, json};

use super::{MSGID, Scene, sent_event, sent_event_at};

#[tokio::test]
async fn the_sent_event_ends_a_doubt_without_a_second_send() {
    let scene = Scene::plain().await;
    let id = scene.doubt("user-1").await;
    let event = sent_event("user-1", MSGID);
    scene.push(&event).await;
    scene.apply().await;
    let fate = format!("sent event {MSGID} 0 success");
    assert_eq!(scene.fate(id).await, fate);
    assert!(scene.queue.lease("worker/2").await.is_none());

    // The redelivered event changes nothing.
    let before = scene.shown(id).await;
    scene.push(&event).await;
    scene.apply().await;
    assert_eq!(scene.shown(id).await, before);
}

#[tokio::test]
async fn the_event_may_come_before_the_rescue() {
    let scene = Scene::plain().await;
    let id = scene.queue.enqueue(json!({"openid": "user-1"})).await;
    scene.queue.lease_and_start("worker/1").await;
    scene.push(&sent_event("user-1", MSGID)).await;
    scene.apply().await;
    assert_eq!(
        scene.queue.state(id).await,
        "pending",
        "in flight: nothing is settled yet"
    );
    scene.queue.expire_leases().await;
    scene.queue.rescue().await;
    scene.queue.make_due(id).await;
    assert!(
        scene.queue.lease("worker/2").await.is_none(),
        "evidence forbids a second send"
    );
    scene.apply().await;
    assert_eq!(scene.queue.history(id).await.settled_by, "event");
}

/// WeChat dates events in whole seconds and by its own clock, so the event of a send may be dated before it.
#[tokio::test]
async fn an_event_dated_a_little_early_is_evidence_and_one_of_a_minute_ago_is_not() {
    let scene = Scene::plain().await;
    let id = scene.doubt("user-1").await;
    let since = scene
        .queue
        .pending(id)
        .await
        .in_doubt_since
        .unwrap()
        .timestamp();
    scene.push(&sent_event_at("user-1", 71, since - 60)).await;
    scene.apply().await;
    assert_eq!(scene.queue.state(id).await, "pending: doubt");
    scene.push(&sent_event_at("user-1", 72, since - 3)).await;
    scene.apply().await;
    assert_eq!(scene.queue.history(id).await.msgid, Some(72));
}

#[tokio::test]
async fn the_event_of_an_earlier_message_to_the_same_user_is_no_evidence() {
    let scene = Scene::plain().await;
    let earlier = scene.send("user-1", 70).await;
    let doubtful = scene.doubt("user-1").await;
    scene.push(&sent_event("user-1", 70)).await;
    scene.apply().await;
    assert_eq!(scene.queue.state(doubtful).await, "pending: doubt");
    assert_eq!(scene.fate(earlier).await, "sent reply 70 0 success");
}

#[tokio::test]
async fn an_event_that_comes_before_its_row_is_settled_is_its_receipt_later() {
    let scene = Scene::plain().await;
    let id = scene.queue.enqueue(json!({"openid": "user-1"})).await;
    let lease = scene.queue.lease_and_start("worker/1").await;
    scene.push(&sent_event("user-1", MSGID)).await;
    scene.apply().await;
    assert_eq!(scene.shown(id).await["receipt_at"], Value::Null);

    scene.settle_sent(&lease, id, MSGID).await;
    assert_eq!(
        scene.fate(id).await,
        format!("sent reply {MSGID} null null")
    );
    scene
        .queue
        .force("update wechat_events set apply_at = now()")
        .await;
    scene.apply().await;
    assert_eq!(
        scene.fate(id).await,
        format!("sent reply {MSGID} 0 success")
    );
}

#[tokio::test]
async fn a_failure_that_the_event_reports_is_shown_and_nothing_is_sent_again() {
    let scene = Scene::plain().await;
    let id = scene.send("user-1", MSGID).await;
    let mut event = sent_event("user-1", MSGID);
    event["List"]["ErrorCode"] = json!("1");
    event["List"]["ErrorStatus"] = json!("system failed");
    scene.push(&event).await;
    scene.apply().await;
    assert_eq!(
        scene.fate(id).await,
        format!("sent reply {MSGID} 1 system failed")
    );
    assert!(
        scene.shown(id).await["reason"]
            .as_str()
            .unwrap()
            .contains("system failed")
    );
    let story: Value = sqlx::query_scalar("select to_jsonb(e) from explain_notification($1) e")
        .bind(id)
        .fetch_one(scene.queue.pool())
        .await
        .unwrap();
    assert!(
        story["sentence"]
            .as_str()
            .unwrap()
            .contains("system failed"),
        "{story}"
    );
    assert!(
        story["sentence_zh"].as_str().unwrap().contains("回执"),
        "{story}"
    );
    assert!(
        story["what_next"]
            .as_str()
            .unwrap()
            .contains("not sent again"),
        "{story}"
    );
    let last = story["timeline"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(
        (&last["event"], &last["code"]),
        (&json!("receipt"), &json!(1))
    );

    // A later word of WeChat about the same message replaces the earlier one, an earlier one does not.
    let now = chrono::Utc::now().timestamp();
    scene.push(&sent_event_at("user-1", MSGID, now + 2)).await;
    scene
        .push(&{
            let mut older = sent_event_at("user-1", MSGID, now - 30);
            older["List"]["ErrorCode"] = json!("2");
            older
        })
        .await;
    scene.apply().await;
    assert_eq!(
        scene.fate(id).await,
        format!("sent reply {MSGID} 0 success")
    );
}

#[tokio::test]
async fn what_was_never_confirmed_is_listed_once_confirmations_do_arrive() {
    let scene = Scene::plain().await;
    let unconfirmed = || async {
        sqlx::query_scalar::<_, i64>("select id from notification_unconfirmed order by id")
            .fetch_all(scene.queue.pool())
            .await
            .unwrap()
    };
    let first = scene.send("user-1", 1).await;
    let second = scene.send("user-2", 2).await;
    let third = scene.send("user-3", 3).await;
    let age = "update notification_history set finished_at = finished_at - interval '2 hours' where id = any ($1)";
    sqlx::query(age)
        .bind(vec![first, second])
        .execute(scene.queue.pool())
        .await
        .unwrap();
    assert!(
        unconfirmed().await.is_empty(),
        "this app's callbacks reach nobody"
    );

    scene.push(&sent_event("user-1", 1)).await;
    scene.apply().await;
    assert!(
        unconfirmed().await.is_empty(),
        "accepted before the first confirmation"
    );
    let first_receipt = "update wechat_apps set first_receipt_at = now() - interval '1 day'";
    scene.queue.force(first_receipt).await;
    assert_eq!(
        unconfirmed().await,
        [second],
        "not {first} nor the young {third}"
    );
}

#[tokio::test]
async fn a_message_of_another_system_is_looked_for_ever_less_and_then_given_up() {
    let scene = Scene::plain().await;
    scene.push(&sent_event("stranger", 9)).await;
    let again =
        "select extract(epoch from apply_at - clock_timestamp())::float8 from wechat_events";
    let wait = || async {
        sqlx::query_scalar::<_, Option<f64>>(again)
            .fetch_one(scene.queue.pool())
            .await
            .unwrap()
    };
    let age = |span: &'static str| {
        let statement = format!(
            "update wechat_events set apply_at = clock_timestamp(), received_at = clock_timestamp() - interval '{span}'"
        );
        async move { statement }
    };
    scene.apply().await;
    assert!((0.1..=1.1).contains(&wait().await.unwrap()));
    scene.queue.force(&age("1 hour").await).await;
    scene.apply().await;
    assert!((3590.0..=3601.0).contains(&wait().await.unwrap()));
    scene.queue.force(&age("9 days").await).await;
    scene.apply().await;
    assert_eq!(wait().await, None);
    assert_eq!(scene.events().await[0]["applied_at"], Value::Null);
}
