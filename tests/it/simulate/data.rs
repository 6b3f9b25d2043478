//! A message's data: keys, types, words, and bodies that cannot be read.

use serde_json::json;
use wxnotify::simulate::{SEND_PATH, TemplateSpec};

use super::{APP, TEMPLATE, USER, World, assert_refused, assert_sent, message};

#[tokio::test]
async fn the_first_bad_key_in_the_templates_order_is_named() {
    let world = World::strict().await;
    let template = TemplateSpec::new(TEMPLATE, ["phrase2", "thing1", "enum3", "number4"])
        .with_enum("enum3", ["客厅", "卧室"]);
    world.control.add_template(APP, template);
    world.control.grant(APP, USER, TEMPLATE, 1);
    let good = json!({
        "thing1": {"value": "咖啡", "color": "#173177"}, "phrase2": {"value": "待取餐"},
        "enum3": {"value": "客厅"}, "number4": {"value": "4"}, "thing9": {"value": "not in the template"},
    });
    let cases = [
        (
            "phrase2",
            json!({"value": "OK"}),
            "data.phrase2.value invalid",
        ),
        (
            "phrase2",
            json!({"value": " "}),
            "data.phrase2.value is empty",
        ),
        (
            "thing1",
            json!({"value": null}),
            "data.thing1.value is empty",
        ),
        ("thing1", json!({}), "data.thing1.value is empty"),
        ("thing1", json!("咖啡"), "data.thing1.value invalid"),
        (
            "enum3",
            json!({"value": "厨房"}),
            "data.enum3.value invalid",
        ),
        ("number4", json!({"value": 4}), "data.number4.value invalid"),
    ];
    for (key, value, complaint) in cases {
        let mut bad = message();
        bad["data"] = good.clone();
        bad["data"][key] = value;
        let answer = world.send(&bad).await;
        assert_refused(&answer, 47003);
        let errmsg = answer["errmsg"].as_str().unwrap();
        let expected = format!("argument invalid! {complaint} rid:");
        assert!(errmsg.starts_with(&expected), "{errmsg} for {key}");
    }
    let mut two_missing = message();
    two_missing["data"] = json!({"thing1": {"value": ""}});
    let answer = world.send(&two_missing).await;
    assert!(
        answer["errmsg"]
            .as_str()
            .unwrap()
            .contains("data.phrase2.value is empty")
    );
    for data in [json!(null), json!("{\"thing1\":{}}"), json!([])] {
        let mut bad = message();
        bad["data"] = data;
        assert_refused(&world.send(&bad).await, 47003);
    }
    let mut right = message();
    right["data"] = good;
    assert_sent(&world.send(&right).await);
}

#[tokio::test]
async fn an_unknown_template_is_checked_by_the_types_its_keys_name() {
    let world = World::open().await;
    let mut bad = message();
    bad["data"] = json!({"thing1": {"value": "咖啡"}, "amount2": {"value": "much"}});
    let answer = world.send(&bad).await;
    assert_refused(&answer, 47003);
    assert!(
        answer["errmsg"]
            .as_str()
            .unwrap()
            .contains("data.amount2.value invalid")
    );
    bad["data"] = json!({});
    assert_refused(&world.send(&bad).await, 47003);
    bad["data"] = json!({"thing1": {"value": "咖啡"}});
    bad["touser"] = json!("not an openid");
    assert_refused(&world.send(&bad).await, 40003);
    bad["touser"] = json!(USER);
    bad["template_id"] = json!("");
    assert_refused(&world.send(&bad).await, 40037);
}

#[tokio::test]
async fn a_banned_template_gets_43107_until_the_ban_is_lifted() {
    let world = World::open().await;
    world.control.ban_template(APP, TEMPLATE, true);
    assert_refused(&world.send(&message()).await, 43107);
    world.control.ban_template(APP, TEMPLATE, false);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused() {
    let world = World::open().await;
    let path = format!("{SEND_PATH}?access_token={}", world.token().await);
    let mut not_utf8 = message().to_string().into_bytes();
    let first_chinese = not_utf8.iter().position(|byte| *byte >= 0x80).unwrap();
    not_utf8[first_chinese] = 0xff;
    assert_refused(&world.post(&path, not_utf8).await, 47001);
    assert_refused(&world.post(&path, "").await, 44002);
    assert_refused(&world.post(&path, "touser=o1").await, 47001);
    assert_refused(&world.post(&path, r#"{"touser":1}"#).await, 47001);
    assert_refused(&world.get(&path).await, 43002);
    assert_refused(&world.get("/cgi-bin/no/such").await, 40066);
    assert_eq!(world.accepted(), 0);
}

#[tokio::test]
async fn an_escaped_body_is_read_as_json() {
    let world = World::open().await;
    let path = format!("{SEND_PATH}?access_token={}", world.token().await);
    let escaped = format!(
        r#"{{"touser":"{USER}","template_id":"{TEMPLATE}","data":{{"phrase\u0031":{{"value":"\u5f85\u53d6\u9910"}}}}}}"#
    );
    assert_sent(&world.post(&path, escaped).await);
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert_eq!(call.value("phrase1").as_deref(), Some("待取餐"));
}
