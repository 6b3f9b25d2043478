//! Sends: the order of WeChat's checks, several at once, what a sent message is given.

use serde_json::json;
use wxnotify::simulate::{Action, Capacity};

use super::{
    APP, OTHER_USER, TEMPLATE, USER, World, assert_refused, assert_sent, message, message_to,
};

/// Everything is wrong at first; each repair uncovers the next refusal.
#[tokio::test]
async fn a_send_is_checked_in_wechats_order() {
    let world = World::strict().await;
    world.control.set_sensitive_words(["发财"]);
    let token = world.token().await;
    let mut bad = json!({
        "touser": "oNobody", "template_id": "TmplOther", "page": "/pages/index",
        "data": {"thing1": {"value": "恭喜发财"}},
    });
    assert_refused(&world.send_with(&token[..9], &bad).await, 40014);
    assert_refused(&world.send_with(&token, &bad).await, 40003);
    bad["touser"] = json!(USER);
    assert_refused(&world.send_with(&token, &bad).await, 40037);
    bad["template_id"] = json!(TEMPLATE);
    assert_refused(&world.send_with(&token, &bad).await, 43101);
    world.control.grant(APP, USER, TEMPLATE, 1);
    assert_refused(&world.send_with(&token, &bad).await, 47003);
    bad["data"]["phrase2"] = json!({"value": "待取餐"});
    assert_refused(&world.send_with(&token, &bad).await, 41030);
    bad["page"] = json!("pages/index");
    assert_refused(&world.send_with(&token, &bad).await, 45168);
    assert_eq!(world.remaining(), Some(1), "no refusal takes a credit");
    bad["data"]["thing1"] = json!({"value": "恭喜"});
    assert_sent(&world.send_with(&token, &bad).await);
    assert_eq!(world.remaining(), Some(0));
}

#[tokio::test]
async fn a_second_send_to_a_user_whose_first_is_in_flight_gets_43108() {
    let world = World::open().await;
    world.control.hold();
    let first = world.start_send(message()).await;
    world.control.wait_for_calls(1).await;
    assert_refused(&world.send(&message()).await, 43108);
    let other_user = world.start_send(message_to(OTHER_USER)).await;
    world.control.wait_for_calls(3).await;
    world.control.release();
    assert_sent(&first.await.unwrap());
    assert_sent(&other_user.await.unwrap());
    assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    let concurrent: Vec<bool> = ledger.sends().map(|call| call.concurrent).collect();
    assert_eq!(concurrent, [false, true, false, false]);
}

#[tokio::test]
async fn of_more_sends_than_are_served_at_once_some_wait_and_then_some_are_refused() {
    let world = World::open().await;
    world.control.hold();
    world.control.set_capacity(Some(Capacity {
        at_once: 1,
        refuses_from: Some(2),
        refusal: Action::errcode(-1),
    }));
    let served = world.start_send(message()).await;
    world.control.wait_for_calls(1).await;
    let waiting = world.start_send(message_to(OTHER_USER)).await;
    world.control.wait_for_calls(2).await;
    let refused = world.start_send(message_to("oThirdUser")).await;
    world.control.wait_for_calls(3).await;
    world.control.release();
    assert_sent(&served.await.unwrap());
    assert_sent(&waiting.await.unwrap());
    assert_refused(&refused.await.unwrap(), -1);
    assert_sent(&world.send(&message_to("oThirdUser")).await);

    world.control.set_capacity(None);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn message_ids_rise_and_the_rid_carries_the_time() {
    let world = World::open().await;
    let mut last = 0;
    for _ in 0..20 {
        let msgid = assert_sent(&world.send(&message()).await);
        assert!(msgid > last);
        last = msgid;
    }
    world.control.refuse(APP, USER, TEMPLATE, true);
    let answer = world.send(&message()).await;
    let errmsg = answer["errmsg"].as_str().unwrap();
    let at = errmsg
        .split("rid: ")
        .nth(1)
        .unwrap()
        .split('-')
        .next()
        .unwrap();
    let minted = i64::from_str_radix(at, 16).unwrap();
    assert!((chrono::Utc::now().timestamp() - minted).abs() < 60);
}

// Quotas
