//! Quotas and what tells of them, and the calls that a rid leads back to.

use std::time::Duration;

use serde_json::{Value, json};
use wxnotify::simulate::SEND_PATH;

use super::{
    APP, OTHER_USER, SECRET, TEMPLATE, USER, World, assert_refused, assert_sent, message,
    message_to, token_of,
};

#[tokio::test]
async fn the_daily_quota_stops_the_app_until_midnight_in_beijing() {
    let world = World::open().await;
    world.begin_the_day();
    world.control.set_quota(APP, Some(2), None);
    world.control.refuse(APP, USER, TEMPLATE, true);
    assert_refused(&world.send(&message()).await, 43101);
    assert_sent(&world.send(&message_to(OTHER_USER)).await);
    assert_refused(&world.send(&message_to(OTHER_USER)).await, 45009);
    let another_app = world.stable("wxAnother", "x", false).await;
    assert_sent(&world.send_with(&token_of(&another_app), &message()).await);
    world.control.advance_clock(Duration::from_secs(86_400));
    assert_sent(&world.send(&message_to(OTHER_USER)).await);
}

#[tokio::test]
async fn the_minute_quota_returns_with_the_next_minute() {
    let world = World::open().await;
    world.control.set_quota(APP, None, Some(0));
    assert_refused(&world.send(&message()).await, 45011);
    world.control.set_quota(APP, None, Some(1));
    world.control.advance_clock(Duration::from_secs(60));
    assert_sent(&world.send(&message()).await);
    world.control.advance_clock(Duration::from_secs(60));
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn quota_get_and_clear_quota_share_the_counters_of_the_checks() {
    let world = World::open().await;
    world.begin_the_day();
    world.control.set_quota(APP, Some(3), Some(100));
    let token = world.token().await;
    for _ in 0..3 {
        assert_sent(&world.send_with(&token, &message()).await);
    }
    let quota_get = format!("/cgi-bin/openapi/quota/get?access_token={token}");
    let unknown = json!({"cgi_path": "/cgi-bin/nothing"}).to_string();
    assert_refused(&world.post(&quota_get, unknown).await, 76021);
    let send_path = json!({"cgi_path": SEND_PATH}).to_string();
    let answer = world.post(&quota_get, send_path.clone()).await;
    assert_eq!(
        answer["quota"],
        json!({"daily_limit": 3, "used": 3, "remain": 0})
    );
    assert_eq!(
        answer["rate_limit"],
        json!({"call_count": 100, "refresh_second": 60})
    );

    let clear = format!("/cgi-bin/clear_quota?access_token={token}");
    let not_mine = json!({"appid": "wxAnother"}).to_string();
    assert_refused(&world.post(&clear, not_mine).await, 40013);
    for _ in 0..10 {
        let cleared = world.post(&clear, json!({"appid": APP}).to_string()).await;
        assert_eq!(cleared["errcode"], 0);
    }
    let eleventh = world.post(&clear, json!({"appid": APP}).to_string()).await;
    assert_refused(&eleventh, 48006);
    let answer = world.post(&quota_get, send_path).await;
    assert_eq!(answer["quota"]["used"], 0);
    assert_sent(&world.send_with(&token, &message()).await);
}

#[tokio::test]
async fn a_rid_leads_back_to_the_failed_call_for_seven_days() {
    let world = World::open().await;
    world.control.refuse(APP, USER, TEMPLATE, true);
    let errmsg = world.send(&message()).await["errmsg"].to_string();
    let rid = errmsg
        .split("rid: ")
        .nth(1)
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let look_up = async |appid: &str, rid: &str| {
        let token = token_of(&world.stable(appid, SECRET, false).await);
        let path = format!("/cgi-bin/openapi/rid/get?access_token={token}");
        world.post(&path, json!({ "rid": rid }).to_string()).await
    };
    assert_refused(&look_up(APP, "00000000-00000000-00000000").await, 76001);
    assert_refused(&look_up(APP, "not-a-rid").await, 76002);
    assert_refused(&look_up("wxAnother", &rid).await, 76003);
    let found = look_up(APP, &rid).await;
    let request_body = found["request"]["request_body"].as_str().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(request_body).unwrap(),
        message()
    );
    assert!(
        found["request"]["response_body"]
            .as_str()
            .unwrap()
            .contains("43101")
    );
    assert_eq!(found["request"]["client_ip"], "127.0.0.1");
    world
        .control
        .advance_clock(Duration::from_secs(7 * 86_400 + 1));
    assert_refused(&look_up(APP, &rid).await, 76004);
}
