//! Control requests over HTTP.

use serde_json::{Value, json};

use super::{APP, OTHER_USER, SECRET, TEMPLATE, USER, World, assert_refused, assert_sent, message};

#[tokio::test]
async fn a_control_request_that_makes_no_sense_says_why() {
    let world = World::open().await;
    let cases = [
        (
            "grant",
            json!({"appid": APP, "openid": USER}),
            "template_id",
        ),
        ("script", json!({"action": "explode"}), "explode"),
        ("latency", json!({"ms": "soon"}), "soon"),
        ("dance", json!({}), "dance"),
    ];
    for (operation, body, mention) in cases {
        let url = world.url(&format!("/_control/{operation}"));
        let request = world.http.post(url).body(body.to_string());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400);
        let text = response.text().await.unwrap();
        assert!(text.contains(mention), "{text}");
    }
    let url = world.url("/_control/wait?arrived=1&timeout_ms=10");
    let response = world.http.get(url).send().await.unwrap();
    assert_eq!(response.status(), 408);
}

#[tokio::test]
async fn every_operation_is_there_over_http_too() {
    let world = World::open().await;
    let operate = async |operation: &str, body: Value| {
        let answer = world
            .post(&format!("/_control/{operation}"), body.to_string())
            .await;
        assert_eq!(answer, json!({"ok": true}), "{operation}");
    };
    operate("app", json!({"appid": APP, "secret": SECRET})).await;
    operate(
        "template",
        json!({"appid": APP, "template_id": TEMPLATE, "fields": ["thing1"]}),
    )
    .await;
    operate("user", json!({"appid": APP, "openid": OTHER_USER})).await;
    operate(
        "grant",
        json!({"appid": APP, "openid": USER, "template_id": TEMPLATE, "credits": 2}),
    )
    .await;
    operate(
        "refuse",
        json!({"appid": APP, "openid": USER, "template_id": TEMPLATE}),
    )
    .await;
    assert_refused(&world.send(&message()).await, 43101);
    operate(
        "refuse",
        json!({"appid": APP, "openid": USER, "template_id": TEMPLATE, "refuses": false}),
    )
    .await;
    operate(
        "ban_template",
        json!({"appid": APP, "template_id": TEMPLATE}),
    )
    .await;
    assert_refused(&world.send(&message()).await, 43107);
    operate(
        "ban_template",
        json!({"appid": APP, "template_id": TEMPLATE, "banned": false}),
    )
    .await;
    operate("sensitive_words", json!({"words": ["咖啡"]})).await;
    assert_refused(&world.send(&message()).await, 45168);
    operate("sensitive_words", json!({"words": []})).await;
    operate(
        "script",
        json!({"openid": USER, "count": 1, "action": "errcode", "errcode": -1}),
    )
    .await;
    assert_refused(&world.send(&message()).await, -1);
    operate("script", json!({"action": "hang"})).await;
    operate("clear_scripts", json!({})).await;
    operate("quota", json!({"appid": APP, "daily": 0})).await;
    assert_refused(&world.send(&message()).await, 45009);
    operate("quota", json!({"appid": APP})).await;
    operate("latency", json!({"ms": 1})).await;
    let capacity =
        json!({"at_once": 50, "refuses_from": 90, "action": "http_status", "status": 503});
    operate("capacity", json!({ "capacity": capacity })).await;
    let token = world.token().await;
    operate("steal_token", json!({"appid": APP})).await;
    assert_refused(&world.send_with(&token, &message()).await, 40001);
    let token = world.token().await;
    operate("expire_token", json!({"appid": APP})).await;
    assert_refused(&world.send_with(&token, &message()).await, 42001);
    let token = world.token().await;
    operate("clock", json!({"advance_secs": 7200})).await;
    assert_refused(&world.send_with(&token, &message()).await, 42001);
    operate("hold", json!({})).await;
    let held = world.start_send(message()).await;
    assert_eq!(
        world.get("/_control/wait?arrived=9").await,
        json!({"ok": true})
    );
    operate("release", json!({})).await;
    let msgid = assert_sent(&held.await.unwrap());
    let ledger = world.get("/_control/ledger").await;
    assert_eq!(ledger["pairs"][0]["remaining"], 1);
    assert_eq!(
        ledger["calls"].as_array().unwrap().last().unwrap()["msgid"],
        msgid
    );
    operate("reset", json!({})).await;
    let ledger = world.get("/_control/ledger").await;
    assert_eq!(
        (&ledger["calls"], &ledger["pairs"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(ledger["counts"]["sends_arrived"], 0);
    assert_sent(&world.send(&message()).await);
}
